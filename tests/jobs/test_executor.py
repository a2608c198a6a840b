"""The executors: which jobs run, what is reported, what a failure costs, and how the jobs are stopped."""

import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgebrush.jobs.executor import MAX_RETRIES, run_jobs
from edgebrush.jobs.local import LocalExecutor
from edgebrush.learning import WorkerLost
from edgebrush.progress import no_progress


@dataclass
class FakeJob:
    """A job that records its runs, and raises the errors, one in each run."""

    title: str
    runs: list[str]
    done: bool = False
    errors: list[BaseException] = field(default_factory=list)
    path: Path = field(init=False)

    def __post_init__(self):
        self.path = Path(self.title)

    def run(self, on_progress, processes):
        if self.errors:
            raise self.errors.pop(0)
        on_progress(0.5)
        self.runs.append(self.title)


def test_only_pending_jobs_run_and_duplicates_run_once():
    runs = []
    jobs = [FakeJob("a", runs), FakeJob("b", runs, done=True), FakeJob("a", runs), FakeJob("c", runs)]
    assert run_jobs(jobs, LocalExecutor(2), "phase", no_progress).finished == 2
    assert sorted(runs) == ["a", "c"]


def test_progress_counts_finished_jobs_and_ends_at_1():
    reports = []
    jobs = [FakeJob("a", []), FakeJob("b", [], done=True)]
    run_jobs(jobs, LocalExecutor(1), "phase", lambda *report: reports.append(report))
    assert reports == [("phase", 0.75, "a"), ("phase", 1.0, "a"), ("phase", 1.0, "")]


def test_after_an_interruption_no_further_job_starts():
    runs = []
    jobs = [FakeJob("a", runs), FakeJob("b", runs, errors=[KeyboardInterrupt()]), FakeJob("c", runs)]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, LocalExecutor(1), "phase", no_progress)
    assert runs == ["a"]


def test_an_error_in_a_job_is_a_failure_and_the_others_go_on():
    runs, done, shares = [], [], []
    broken = FakeJob("b", runs, errors=[ValueError("first line\nthe reason")])
    jobs = [FakeJob("a", runs), broken, FakeJob("c", runs)]
    outcome = run_jobs(jobs, LocalExecutor(1), "phase", lambda *report: shares.append(report[1]), done.append)
    assert runs == ["a", "c"] and [job.title for job in done] == ["a", "c"]
    (failure,) = outcome.failures
    assert (outcome.finished, failure.job, failure.error) == (2, "b", "the reason")
    assert "ValueError: first line" in failure.details and "in run" in failure.details
    assert shares[-1] == 1.0


@pytest.mark.parametrize(("losses", "failures"), [(MAX_RETRIES, 0), (MAX_RETRIES + 1, 1)])
def test_a_job_whose_process_is_lost_is_retried_a_few_times(losses, failures):
    runs = []
    lost = FakeJob("a", runs, errors=[WorkerLost("killed") for _ in range(losses)])
    outcome = run_jobs([lost, FakeJob("b", runs)], LocalExecutor(1), "phase", no_progress)
    assert runs == (["b"] if failures else ["a", "b"])
    assert [failure.error for failure in outcome.failures] == ["WorkerLost: killed"] * failures


SAVING = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print(flush=True)
time.sleep(60)
"""


@dataclass
class Training(FakeJob):
    """A job in a process that exits with code 7 on SIGTERM, as a training saves its checkpoint."""

    started: threading.Event = field(default_factory=threading.Event)

    def run(self, on_progress, processes):
        process = subprocess.Popen([sys.executable, "-c", SAVING], stdout=subprocess.PIPE)
        process.stdout.readline()  # its signal handler is set
        processes.append(process)
        self.started.set()
        self.runs.append(process)
        process.wait(30)


@pytest.mark.process
def test_an_interruption_stops_the_processes_of_all_jobs_and_waits_for_them():
    training = Training("a", [])

    class Interrupted(FakeJob):
        def run(self, on_progress, processes):
            assert training.started.wait(30)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([training, Interrupted("b", [])], LocalExecutor(2), "phase", no_progress)
    assert [process.returncode for process in training.runs] == [7]


@pytest.mark.process
def test_a_process_that_starts_during_an_interruption_is_stopped_as_well():
    executor, runs = LocalExecutor(1), []

    class Late(Training):
        def run(self, on_progress, processes):
            executor.interrupt()
            super().run(on_progress, processes)

    executor.run(Late("a", runs), lambda share: None)
    assert [process.returncode for process in runs] == [7]


def test_work_in_threads_ends_at_its_next_report_after_an_interruption():
    executor = LocalExecutor(1)

    class Tuning(FakeJob):
        def run(self, on_progress, processes):
            executor.interrupt()
            on_progress(0.5)

    with pytest.raises(KeyboardInterrupt):
        executor.run(Tuning("a", []), lambda share: None)
