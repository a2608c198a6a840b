"""Run jobs that are cached by content, several at once; what is done is not done again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event, Lock
from typing import Protocol

Hear = Callable[[float], None]  # hears what share of a unit is done


Workers = list[subprocess.Popen]  # gets the processes that a unit starts


class Unit(Protocol):
    """Something to do once."""

    @property
    def path(self) -> Path:
        """Where it is kept, and what tells it from others."""
        ...

    @property
    def title(self) -> str: ...

    @property
    def done(self) -> bool: ...

    def do(self, hear: Hear, workers: Workers) -> None: ...


def work_off(units: Sequence[Unit], jobs: int, phase: str, progress: Callable[[str, float, str], None]) -> int:
    """Do what is not done yet, ``jobs`` units at once; how many there were to do.

    On Ctrl-C, or when a unit fails, trainings at work save their checkpoints before this raises.
    """
    known = {unit.path: unit for unit in units}  # a unit that two tables need is done once
    waiting = [unit for unit in known.values() if not unit.done]
    shares = {path: 1.0 for path, unit in known.items() if unit.done}
    lock, workers, over = Lock(), Workers(), Event()

    def run(unit: Unit) -> None:
        if over.is_set():
            return

        def hear(share: float) -> None:
            with lock:
                shares[unit.path] = min(share, 1.0)
                progress(phase, sum(shares.values()) / len(known), unit.title)

        try:
            unit.do(hear, workers)
        except BaseException:
            over.set()  # before the pool takes the next unit
            raise
        hear(1.0)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for done in as_completed([pool.submit(run, unit) for unit in waiting]):
                done.result()
        except BaseException:
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                if worker.poll() is None:
                    worker.send_signal(signal.SIGINT)
            for worker in workers:
                worker.wait()
            raise
    progress(phase, 1.0, "")
    return len(waiting)


def default_jobs() -> int:
    """As many units at once as there are cores."""
    return os.cpu_count() or 1
