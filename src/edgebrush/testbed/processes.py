"""Processes that the testbed starts, each in a group of its own, and what it takes that none outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from edgebrush.errors import UserError

T = TypeVar("T")
READY_S = 60.0  # until a process says where it listens
STOP_S = 10.0  # from SIGTERM to SIGKILL
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


async def together(work: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Do all at once; where one fails, stop the others and raise what went wrong with it."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run it; SIGTERM and SIGHUP end it as SIGINT does: in a ``KeyboardInterrupt``, once it has cleaned up."""

    async def main() -> T:
        task = asyncio.current_task()
        assert task
        for signum in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
        return await work

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


class Process:
    """`edgebrush VERB ...` as a process; what it says goes to a log file, where also its address is read."""

    def __init__(self, name: str, arguments: list[str], log: Path):
        self.name, self.arguments, self.log = name, arguments, log
        self.environment = {**os.environ, **ENVIRONMENT}
        self.url = ""
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it listens. Raises ``UserError`` where it ends instead."""
        said = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "edgebrush.cli.main",
                *self.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(READY_S):
                while not (url := self._address(said)):
                    if self.process.returncode is not None:
                        raise UserError(f"{self.name} did not start: {self._last_line()} ({self.log})")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise UserError(f"{self.name} did not say where it listens within {READY_S:g} s: {self.log}") from None
        self.url = url

    def send(self, signum: signal.Signals) -> None:
        """Signal its whole group; nothing happens where it has ended."""
        if self.process and self.process.returncode is None:
            os.killpg(self.process.pid, signum)

    async def kill(self) -> None:
        """End it at once."""
        self.send(signal.SIGKILL)
        if self.process:
            await self.process.wait()

    async def stop(self) -> None:
        """Ask it to end, and make it after a while."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            if self.process:
                async with asyncio.timeout(STOP_S):
                    await self.process.wait()
        except TimeoutError:
            pass
        finally:
            await self.kill()

    async def restart(self) -> None:
        """Kill it, and start it again at the same address."""
        await self.kill()
        self.arguments[self.arguments.index("--port") + 1] = self.url.rpartition(":")[2]
        await self.start()

    def _address(self, after: int) -> str:
        with open(self.log, "rb") as log:
            log.seek(after)
            whole = log.read().decode("utf-8", "replace").rpartition("\n")[0]
        return next((word.rstrip(",") for word in whole.split() if word.startswith("http://")), "")

    def _last_line(self) -> str:
        return next(reversed(self.log.read_text(errors="replace").split("\n")[:-1]), "it said nothing")
