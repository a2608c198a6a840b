"""The executor of a command's jobs, and how the command ends where jobs failed or a signal arrived."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from edgebrush.jobs.executor import Executor, Failure

from .messages import print_line


@contextmanager
def open_executor(ray: str | None, jobs: int | None) -> Iterator[Executor]:
    """The executor that runs ``jobs`` at once: on the Ray cluster with this address, or by default on this machine.

    While it is open, SIGTERM is an interruption, as Ctrl-C is. Raises ``UserError`` where Ray cannot be used.
    """
    if ray is None:
        from edgebrush.jobs.local import LocalExecutor

        with _sigterm_interrupts():
            yield LocalExecutor(jobs)
    else:
        from edgebrush.jobs.ray import RayExecutor

        with RayExecutor(ray, jobs) as executor, _sigterm_interrupts():  # after Ray has set a handler of its own
            yield executor


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def exit_for(failures: Sequence[Failure]) -> None:
    """Where jobs failed, print one line for each on stderr, and exit with code 1."""
    for failure in failures:
        print_line(f"failed: {failure.job}: {failure.error}", logging.ERROR)
    if failures:
        print_line(f"incomplete: {len(failures)} jobs failed; the same command runs them again", logging.ERROR)
        raise typer.Exit(1)
