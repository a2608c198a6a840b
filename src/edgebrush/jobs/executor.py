"""The executor: run the jobs whose results are not there yet, several at once."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event, Lock
from typing import Protocol

from edgebrush.progress import ProgressCallback, ShareCallback

Processes = list[subprocess.Popen]


class Job(Protocol):
    """Work whose result is written once, to a path that identifies it."""

    @property
    def path(self) -> Path:
        """The file or folder of the result; two jobs with the same path are the same job."""
        ...

    @property
    def title(self) -> str:
        """What the progress report shows."""
        ...

    @property
    def done(self) -> bool:
        """Whether the result is complete."""
        ...

    def run(self, on_progress: ShareCallback, processes: Processes) -> None:
        """Do the work and write the result.

        Append every process that is started to ``processes``: each one gets SIGINT when the run is stopped, on which
        it must save its state and exit.
        """
        ...


def run_jobs(jobs: Sequence[Job], workers: int, phase: str, progress: ProgressCallback) -> int:
    """Run the jobs that are not done, ``workers`` at a time; returns how many those were.

    Duplicates run once. After Ctrl-C or an error in a job, no further job starts, and the processes of running jobs
    save their checkpoints and exit before this function raises.
    """
    unique = {job.path: job for job in jobs}
    pending = [job for job in unique.values() if not job.done]
    shares = {path: 1.0 for path, job in unique.items() if job.done}
    lock, stopped = Lock(), Event()
    processes: Processes = []

    def run(job: Job) -> None:
        if stopped.is_set():
            return

        def report(share: float) -> None:
            with lock:
                shares[job.path] = min(share, 1.0)
                progress(phase, sum(shares.values()) / len(unique), job.title)

        try:
            job.run(report, processes)
        except BaseException:
            stopped.set()  # before the pool starts the next job
            raise
        report(1.0)

    with ThreadPoolExecutor(workers) as pool:
        try:
            for future in as_completed([pool.submit(run, job) for job in pending]):
                future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            _interrupt(processes)
            raise
    progress(phase, 1.0, "")
    return len(pending)


def _interrupt(processes: Processes) -> None:
    """Send SIGINT to the processes that still run, and wait until all have exited."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in processes:
        process.wait()


def default_workers() -> int:
    """One worker per core."""
    return os.cpu_count() or 1
