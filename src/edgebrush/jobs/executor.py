"""Run the jobs whose results are not there yet, several at once. A job that fails costs only itself."""

from __future__ import annotations

import logging
import subprocess
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Protocol, Self, TypeVar

from edgebrush.errors import UserError
from edgebrush.learning import WorkerLost
from edgebrush.progress import ProgressCallback, ShareCallback
from edgebrush.scenario.schema import Scenario

MAX_RETRIES = 3  # of a job whose process or node was lost
logger = logging.getLogger(__name__)


class Processes(list[subprocess.Popen[bytes]]):
    """The processes that a job has started, so that they can be stopped together."""

    def __init__(self) -> None:
        super().__init__()
        self.stopping = False

    def append(self, process: subprocess.Popen[bytes]) -> None:
        """Add a process; it is stopped at once where the others have been stopped."""
        super().append(process)
        if self.stopping:
            process.terminate()

    def stop(self) -> None:
        """Send SIGTERM to the processes that still run: a training then saves its checkpoint and exits."""
        self.stopping = True
        for process in list(self):
            if process.poll() is None:
                process.terminate()

    def wait(self) -> None:
        """Wait until all have exited."""
        for process in list(self):
            process.wait()


class Job(Protocol):
    """Work whose result is written once, to a path in a cache that identifies it."""

    @property
    def path(self) -> Path:
        """The file or folder of the result; two jobs with the same path are the same job."""
        ...

    @property
    def title(self) -> str:
        """What progress and failures show."""
        ...

    @property
    def done(self) -> bool:
        """Whether the result is complete."""
        ...

    @property
    def scenario(self) -> Scenario:
        """The scenario on which the work is done."""
        ...

    @property
    def inputs(self) -> list[Path]:
        """What the job reads from the cache: results of other jobs."""
        ...

    def moved(self, scenario: Scenario, cache: Path) -> Self:
        """The same job with another cache; ``scenario`` is the same but for the place of its files."""
        ...

    def run(self, on_progress: ShareCallback, processes: Processes) -> None:
        """Do the work and write the result. Every process that is started is added to ``processes``.

        An unfinished result that is there already is continued. Raises ``WorkerLost`` where a process was killed.
        """
        ...


AnyJob = TypeVar("AnyJob", bound=Job)


class Executor(Protocol):
    """Where jobs run: on this machine (``local.py``) or on a Ray cluster (``ray.py``)."""

    @property
    def slots(self) -> int:
        """How many jobs it takes at once."""
        ...

    def run(self, job: Job, on_progress: ShareCallback) -> None:
        """Run a job until its result is in its cache. Several threads call this at once.

        Raises ``WorkerLost`` where the process or node is gone that ran it, ``KeyboardInterrupt`` after ``interrupt``,
        and what the job raises.
        """
        ...

    def interrupt(self) -> None:
        """Make all calls of ``run`` end soon, with what can be saved in the caches. No job can run from then on."""
        ...


@dataclass(frozen=True)
class Failure:
    """A job without a result: after an error in it, or after its last retry."""

    job: str  # its title
    error: str  # in one line
    details: str  # the traceback

    @classmethod
    def of(cls, job: Job, error: Exception) -> Failure:
        """The failure of a job by an error."""
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return cls(job.title, text.strip().splitlines()[-1], "".join(traceback.format_exception(error)))


@dataclass(frozen=True)
class Outcome:
    """What became of the jobs that were not done."""

    finished: int
    failures: list[Failure]


def run_jobs(
    jobs: Sequence[AnyJob],
    executor: Executor,
    phase: str,
    progress: ProgressCallback,
    on_done: Callable[[AnyJob], None] = lambda job: None,
) -> Outcome:
    """Run the jobs that are not done, as many at once as the executor takes; duplicates run once.

    A job whose process or node is lost is run again, up to ``MAX_RETRIES`` times. A job that raises an error is a
    failure in the outcome, and the others go on. ``on_done`` is called with each job that has finished, by several
    threads. After Ctrl-C no further job starts, and the running ones end before this function raises.
    """
    unique = {job.path: job for job in jobs}
    pending = [job for job in unique.values() if not job.done]
    shares = {path: 1.0 for path, job in unique.items() if job.done}
    lock, stopped = Lock(), Event()
    failures: list[Failure] = []

    def run(job: AnyJob) -> None:
        def report(share: float) -> None:
            with lock:
                shares[job.path] = min(share, 1.0)
                progress(phase, sum(shares.values()) / len(unique), job.title)

        if stopped.is_set():
            return
        try:
            _run_with_retries(job, executor, report, stopped)
            on_done(job)
        except Exception as error:
            logger.warning("%s failed: %s", job.title, error)
            failures.append(Failure.of(job, error))
        except BaseException:
            stopped.set()  # before the pool starts the next job
            raise
        report(1.0)

    with ThreadPoolExecutor(executor.slots) as pool:
        try:
            for future in as_completed([pool.submit(run, job) for job in pending]):
                future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            executor.interrupt()
            raise
    progress(phase, 1.0, "")
    return Outcome(len(pending) - len(failures), failures)


def _run_with_retries(job: Job, executor: Executor, report: ShareCallback, stopped: Event) -> None:
    """Run a job, again where its process or node is lost. Raises ``WorkerLost`` after the last retry."""
    for retries_left in reversed(range(MAX_RETRIES + 1)):
        try:
            return executor.run(job, report)
        except WorkerLost as error:
            if stopped.is_set() or not retries_left:
                raise
            logger.warning("%s: %s; it is tried again", job.title, error)
