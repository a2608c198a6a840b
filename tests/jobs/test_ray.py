"""Jobs on Ray: the same numbers as here, and what a lost worker, a lost node, an error and an interruption cost."""

import json
import signal
import threading
import time
from importlib.util import find_spec

import numpy as np
import psutil
import pytest

from edgebrush.errors import UserError
from edgebrush.jobs.executor import MAX_RETRIES, run_jobs
from edgebrush.jobs.local import LocalExecutor
from edgebrush.jobs.ray import RayExecutor
from edgebrush.progress import no_progress
from tests.support.jobs import ScriptedJob
from tests.support.study import numbers, tiny_training

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra [ray]")
LOOPBACK = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


@pytest.fixture
def scripted(tiny, tmp_path):
    """A function that makes a scripted job."""
    (tmp_path / "notes").mkdir()
    return lambda name, *acts: ScriptedJob(name, tiny, tmp_path / "cache", tmp_path / "notes", acts)


@pytest.mark.process
@needs_ray
def test_jobs_on_ray_have_the_numbers_of_local_ones_and_survive_the_loss_of_a_worker(
    tiny, undisturbed, scripted, tmp_path
):
    training, killed, shares = tiny_training(tiny, tmp_path / "cache"), scripted("killed", "die"), []
    with RayExecutor("local", 2) as executor:
        outcome = run_jobs([training, killed], executor, "phase", lambda *report: shares.append(report[1]))
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = {
            connection.laddr.ip
            for process in processes
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert (outcome.finished, outcome.failures) == (2, [])
    assert numbers(training) == undisturbed
    assert len(killed.nodes) == 2 and shares[-1] == 1.0
    assert json.loads(killed.path.read_text()) == {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
    }
    assert listening and listening <= LOOPBACK


class CtrlC:
    """A progress callback that interrupts the main thread once, at the first report for which a condition holds."""

    def __init__(self, condition):
        self.condition, self.lock = condition, threading.Lock()

    def __call__(self, phase, share, note):
        if self.condition(share, note) and self.lock.acquire(blocking=False):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pytest.fixture(scope="module")
def cluster():
    """A head without cores, to which the driver connects, and two nodes with one core each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


@pytest.mark.process
@pytest.mark.slow
@needs_ray
def test_a_lost_node_costs_only_its_own_jobs(cluster, tiny, undisturbed, scripted, tmp_path):
    spare = cluster.add_node(num_cpus=1)
    training, hanging = tiny_training(tiny, tmp_path / "cache"), scripted("hanging", "hang")
    others = [scripted(f"other-{number}") for number in range(4)]

    def remove_its_node():
        while not hanging.nodes:
            time.sleep(0.1)
        (lost,) = (node for node in [*cluster.worker_nodes] if node.node_id == hanging.nodes[0])
        cluster.remove_node(lost, allow_graceful=False)

    remover = threading.Thread(target=remove_its_node)
    with RayExecutor(cluster.address) as executor:
        remover.start()
        outcome = run_jobs([hanging, training, *others], executor, "phase", no_progress)
    remover.join()
    assert (outcome.finished, outcome.failures) == (6, [])
    assert len(hanging.nodes) == 2 and hanging.nodes[0] != hanging.nodes[1]
    assert numbers(training) == undisturbed
    if spare in cluster.worker_nodes:
        cluster.remove_node(spare)
    else:
        cluster.add_node(num_cpus=1)


@pytest.mark.process
@pytest.mark.slow
@needs_ray
def test_jobs_that_fail_for_good_are_reported_and_the_others_finish(cluster, scripted):
    lost, broken, fine = scripted("lost", *["die"] * 9), scripted("broken", "raise"), scripted("fine")
    with RayExecutor(cluster.address) as executor:
        outcome = run_jobs([lost, broken, fine], executor, "phase", no_progress)
    errors = {failure.job: failure for failure in outcome.failures}
    assert outcome.finished == 1 and fine.done and errors.keys() == {"lost", "broken"}
    assert len(lost.nodes) == 1 + MAX_RETRIES and len(broken.nodes) == 1
    assert errors["lost"].error == "WorkerLost: its worker or node was lost (WorkerCrashedError)"
    assert errors["broken"].error == "ValueError: no good" and "tests/support/jobs.py" in errors["broken"].details


@pytest.mark.process
@pytest.mark.slow
@needs_ray
def test_an_interrupted_training_comes_back_with_its_checkpoint_and_goes_on_anywhere(cluster, tiny, tmp_path):
    updates = 100_000
    training = tiny_training(tiny, tmp_path / "cache", updates=updates)

    def run_beyond(least, executor):
        """Interrupt the training when its share exceeds ``least``; returns the updates in its checkpoint."""

        with pytest.raises(KeyboardInterrupt):
            run_jobs([training], executor, "phase", CtrlC(lambda share, note: share > least))
        with np.load(training.path / "checkpoint" / "seed-1.npz") as saved:
            return len(json.loads(str(saved["meta"]))["rows"])

    with RayExecutor(cluster.address) as executor:
        first = run_beyond(0.0, executor)
    with RayExecutor(cluster.address) as executor:
        second = run_beyond(first / updates, executor)
    assert 0 < first < second < run_beyond(second / updates, LocalExecutor(1))


@pytest.mark.process
@pytest.mark.slow
@needs_ray
def test_an_interruption_cancels_the_tasks_that_wait(cluster, scripted):
    jobs = [scripted(name, "hang") for name in "abcdefgh"]
    ctrl_c = CtrlC(lambda share, note: any(job.nodes for job in jobs))
    with RayExecutor(cluster.address) as executor, pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, executor, "phase", ctrl_c)
    # On two cores. After the interruption, one or two may have started on the cores of those that stopped.
    assert sum(len(job.nodes) for job in jobs) <= 4 and not any(job.done for job in jobs)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://10.0.0.1:10001", "run this command on a node of the cluster"),
        ("nonsense", "no cluster answers there"),
        ("127.0.0.1:1", "no cluster answers there"),
        ("127.0.0.1:99999", "no cluster answers there"),
    ],
)
def test_an_address_without_a_cluster_is_an_error(address, message):
    with pytest.raises(UserError, match=message):
        RayExecutor(address)


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_error_names_the_extra():
    with pytest.raises(UserError, match=r"needs ray; `pip install '.\[ray\]'`"):
        RayExecutor("auto")
