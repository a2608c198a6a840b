"""The executor of this machine: trainings run in processes, everything else in threads of this one."""

from __future__ import annotations

import os
from threading import Event

from edgebrush.progress import ShareCallback

from .executor import Job, Processes


class LocalExecutor:
    """Runs jobs on this machine, ``slots`` at once (default: one per core)."""

    def __init__(self, slots: int | None = None):
        self.slots = slots or os.cpu_count() or 1
        self.started: list[Processes] = []  # one entry per job that was run
        self.interrupted = Event()

    def run(self, job: Job, on_progress: ShareCallback) -> None:
        """Run a job; see ``Executor``. After the loss of its process, a training resumes from its checkpoint."""

        def report(share: float) -> None:
            if self.interrupted.is_set():
                raise KeyboardInterrupt
            on_progress(share)

        processes = Processes()
        self.started.append(processes)
        if self.interrupted.is_set():  # by another thread, which may have missed the new entry
            raise KeyboardInterrupt
        job.run(report, processes)

    def interrupt(self) -> None:
        """Stop the processes, which save their checkpoints, and let the threads end at their next report."""
        self.interrupted.set()
        for processes in self.started:
            processes.stop()
        for processes in self.started:
            processes.wait()
