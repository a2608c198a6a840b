"""The testbed's child processes: start, signal and stop them, and make sure that none outlives the testbed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from edgebrush.errors import UserError

T = TypeVar("T")
READY_S = 60.0  # from the start of a process until it prints its address
STOP_S = 10.0  # from SIGTERM to SIGKILL
POLL_S = 0.02
READY = re.compile(
    r"(?:serves .*|accepts tasks) at (http://[^\s,]+)"
)  # of `serve` and `ue`; other lines name others' URLs
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


async def run_all(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Run coroutines concurrently. The first exception cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in coroutines:
                group.create_task(each)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def run_interruptible(coroutine: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, but SIGTERM and SIGHUP act like SIGINT: clean up, then raise ``KeyboardInterrupt``."""

    async def main() -> T:
        task = asyncio.current_task()
        assert task
        for signum in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
        return await coroutine

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


class Process:
    """One `edgebrush VERB ...` in its own process group. Its output goes to ``log``; its address is read there."""

    def __init__(self, name: str, arguments: list[str], log: Path):
        self.name, self.arguments, self.log = name, arguments, log
        self.environment = {**os.environ, **ENVIRONMENT}
        self.url = ""
        self.process: asyncio.subprocess.Process | None = None
        self.down = asyncio.Lock()  # held from an intended end until the process listens again

    async def start(self) -> None:
        """Start the process and wait until it listens. Raises ``UserError`` if it exits or takes too long."""
        log_start = self.log.stat().st_size if self.log.exists() else 0
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
                while not (url := self._read_url(log_start)):
                    if self.process.returncode is not None:
                        raise UserError(f"{self.name} did not start: {self._last_line()} ({self.log})")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise UserError(f"{self.name} printed no address within {READY_S:g} s: {self.log}") from None
        self.url = url

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to the whole process group; no effect if it has exited."""
        if self.process and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it exits now
                os.killpg(self.process.pid, signum)

    async def kill(self) -> None:
        """Send SIGKILL and wait for the exit."""
        self.send(signal.SIGKILL)
        if self.process:
            await self.process.wait()

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after ``STOP_S``. A frozen process is thawed first."""
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
        """Kill the process and start it again at the same address."""
        await self.kill()
        self.arguments[self.arguments.index("--port") + 1] = self.url.rpartition(":")[2]
        await self.start()

    def _read_url(self, log_start: int) -> str:
        """The process's address in the complete lines of the log from byte ``log_start``; "" if there is none yet."""
        with open(self.log, "rb") as log:
            log.seek(log_start)
            lines = log.read().decode("utf-8", "replace").rpartition("\n")[0]
        found = READY.search(lines)
        return found[1] if found else ""

    def _last_line(self) -> str:
        return next(reversed(self.log.read_text(errors="replace").split("\n")[:-1]), "it printed nothing")
