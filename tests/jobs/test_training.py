"""A training as a job: interrupted and killed on the way, it ends with the numbers of an undisturbed one."""

import pytest

from edgebrush.jobs.executor import run_jobs
from edgebrush.jobs.local import LocalExecutor
from tests.support.study import numbers, tiny_training


@pytest.mark.process
def test_a_killed_process_costs_no_more_than_the_way_back_to_the_checkpoint(tiny, undisturbed, tmp_path):
    job, executor = tiny_training(tiny, tmp_path), LocalExecutor(1)

    def interrupt(phase, share, note):
        if share >= 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([job], executor, "training", interrupt)
    assert list(job.path.glob("checkpoint/seed-1.npz")) and not job.done

    executor, shares = LocalExecutor(1), []

    def kill_once(phase, share, note):
        if not shares:
            (process,) = executor.started[0]
            process.kill()
        shares.append(share)

    outcome = run_jobs([job], executor, "training", kill_once)
    assert outcome.finished == 1 and not outcome.failures
    assert min(shares) > 0.3  # both attempts began at the checkpoint
    assert len(executor.started) == 2 and numbers(job) == undisturbed
