"""The executor: which jobs run, what it reports, and how it stops."""

import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgebrush.jobs.executor import run_jobs
from edgebrush.progress import no_progress


@dataclass
class FakeJob:
    """A job that records its run, or raises."""

    title: str
    runs: list[str]
    done: bool = False
    error: BaseException | None = None
    path: Path = field(init=False)

    def __post_init__(self):
        self.path = Path(self.title)

    def run(self, on_progress, processes):
        if self.error:
            raise self.error
        on_progress(0.5)
        self.runs.append(self.title)


def test_only_pending_jobs_run_and_duplicates_run_once():
    runs = []
    jobs = [FakeJob("a", runs), FakeJob("b", runs, done=True), FakeJob("a", runs), FakeJob("c", runs)]
    assert run_jobs(jobs, 2, "phase", no_progress) == 2
    assert sorted(runs) == ["a", "c"]


def test_progress_counts_finished_jobs_and_ends_at_1():
    reports = []
    jobs = [FakeJob("a", []), FakeJob("b", [], done=True)]
    run_jobs(jobs, 1, "phase", lambda *report: reports.append(report))
    assert reports == [("phase", 0.75, "a"), ("phase", 1.0, "a"), ("phase", 1.0, "")]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken")])
def test_after_an_error_no_further_job_starts(error):
    runs = []
    jobs = [FakeJob("a", runs), FakeJob("b", runs, error=error), FakeJob("c", runs)]
    with pytest.raises(type(error)):
        run_jobs(jobs, 1, "phase", no_progress)
    assert runs == ["a"]


@pytest.mark.process
def test_after_an_error_the_processes_of_other_jobs_get_sigint():
    """A training saves its checkpoint on SIGINT: here a process exits with a code of its own."""
    handler = "signal.signal(signal.SIGINT, lambda *_: sys.exit(7))"
    code = f"import signal, sys, time; {handler}; print(flush=True); time.sleep(60)"
    started, exits = threading.Event(), []

    class Training(FakeJob):
        def run(self, on_progress, processes):
            process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
            process.stdout.readline()  # its signal handler is set
            processes.append(process)
            started.set()
            exits.append(process.wait(30))

    class Failing(FakeJob):
        def run(self, on_progress, processes):
            assert started.wait(30)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run_jobs([Training("a", []), Failing("b", [])], 2, "phase", no_progress)
    assert exits == [7]
