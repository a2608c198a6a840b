"""Fault injection: failures of processes, links, clients and clocks while the testbed runs.

Under every fault each task must end exactly once. A fault may change how processes start (``prepare``) and act while
tasks arrive (``inject``).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx2

from edgebrush.api.schema import IMAGES_PATH, LOAD_PATH
from edgebrush.errors import UserError
from edgebrush.journal.reader import read_journal

from .episode import Episode
from .outcomes import Audit, audit
from .processes import POLL_S, Process, run_all, run_interruptible
from .testbed import Testbed

T = TypeVar("T")

INJECT_AFTER = 0.3  # share of the arrivals' time
OUTAGE_S = 4.0  # of faults that end
TARGET_TIMEOUT_S = 60.0  # for a BS or UE to have a task
LEAVING_CLIENTS = 5
CLOCK_STEPS_S = (3600.0, -86_400.0)
CLOCK_FILE = "clock-step"  # in the testbed's folder: the seconds to add to the wall clock

# Loaded by every process of `clock-step` before anything else: a wall clock with an offset from a file.
SHIFTED_CLOCK = """\
import datetime, pathlib, time
offset_file, real_time, real_datetime = pathlib.Path({file!r}), time.time, datetime.datetime
def offset():
    return float(offset_file.read_text() or 0) if offset_file.exists() else 0.0
class Shifted(real_datetime):
    @classmethod
    def now(cls, tz=None):
        return real_datetime.now(tz) + datetime.timedelta(seconds=offset())
time.time = lambda: real_time() + offset()
time.time_ns = lambda: int(1e9 * time.time())
datetime.datetime = Shifted
"""


@dataclass(frozen=True)
class Fault:
    """A failure to inject. ``inject`` returns how many tasks it requested in addition to the episode's."""

    description: str
    inject: Callable[[Testbed], Awaitable[int]]
    prepare: Callable[[Testbed], None] = lambda testbed: None


def run_fault(name: str, source: str, episode: Episode, policy: str, folder: Path) -> Audit:
    """Replay an episode with a fault. Journals and logs go to ``folder``. Raises ``UserError`` for unknown names."""
    if name not in FAULTS:
        raise UserError(f"fault = {name!r}: there are {', '.join(FAULTS)}")
    return run_interruptible(_run_fault(FAULTS[name], source, episode, policy, folder))


async def _run_fault(fault: Fault, source: str, episode: Episode, policy: str, folder: Path) -> Audit:
    folder.mkdir(parents=True, exist_ok=True)
    testbed = Testbed(source, episode, policy, folder)
    fault.prepare(testbed)

    requested = len(episode.tasks)

    async def inject() -> None:
        nonlocal requested
        await asyncio.sleep(INJECT_AFTER * episode.seconds)
        requested += await fault.inject(testbed)

    async with testbed:
        await run_all([inject(), testbed.play()])
    return audit(requested, testbed.journals)


async def kill_bs(testbed: Testbed) -> int:
    """Kill the first BS that has tasks, and do not restart it."""
    await (await busy_bs(testbed)).kill()
    return 0


async def freeze_bs(testbed: Testbed) -> int:
    """Freeze the first BS that has tasks for ``OUTAGE_S``."""
    bs = await busy_bs(testbed)
    bs.send(signal.SIGSTOP)
    await asyncio.sleep(OUTAGE_S)
    bs.send(signal.SIGCONT)
    return 0


async def cut_links(testbed: Testbed) -> int:
    """Cut all links of the first UE that has a task at a BS for ``OUTAGE_S``."""
    ue = await sending_ue(testbed)
    links = [link for (end, _), link in testbed.links.items() if end == ue]
    for link in links:
        link.cut()
    await asyncio.sleep(OUTAGE_S)
    for link in links:
        link.restore()
    return 0


async def inject_nothing(testbed: Testbed) -> int:
    return 0


def shorten_queues(testbed: Testbed) -> None:
    """Let every BS run one task and queue one."""
    for bs in testbed.bss:
        bs.arguments += ["--batch-limit", "1", "--queue-limit", "1"]  # a repeated option replaces the earlier one


async def restart_ue(testbed: Testbed) -> int:
    """Kill the first UE that has a task at a BS; a new agent resumes from its journal."""
    await testbed.ues[await sending_ue(testbed)].restart()
    return 0


async def disconnect_clients(testbed: Testbed) -> int:
    """Request images and disconnect when the task is in the journal."""
    for seed in range(LEAVING_CLIENTS):
        ue = seed % len(testbed.ues)
        async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
            body = {"prompt": testbed.episode.tasks[0].prompt, "seed": seed}
            request = asyncio.create_task(client.post(testbed.ues[ue].url + IMAGES_PATH, json=body))
            while not any(line.get("wanted", {}).get("seed") == seed for line in read_journal(testbed.journals[ue])):
                await asyncio.sleep(POLL_S)
            request.cancel()
            await asyncio.wait([request])
    return LEAVING_CLIENTS


def shift_clocks(testbed: Testbed) -> None:
    """Start all processes with a wall clock that ``step_clocks`` can shift."""
    file = testbed.folder / CLOCK_FILE
    (testbed.folder / "sitecustomize.py").write_text(SHIFTED_CLOCK.format(file=str(file.absolute())))
    path = os.pathsep.join([str(testbed.folder.absolute()), *filter(None, [os.environ.get("PYTHONPATH")])])
    for process in (*testbed.bss, *testbed.ues):
        process.environment["PYTHONPATH"] = path


async def step_clocks(testbed: Testbed) -> int:
    """Shift the wall clocks, one step after the other."""
    for step_s in CLOCK_STEPS_S:
        (testbed.folder / CLOCK_FILE).write_text(str(step_s))
        await asyncio.sleep(0.5 * OUTAGE_S)
    return 0


FAULTS = {
    "kill-bs": Fault("a BS with tasks in it is killed (SIGKILL) and not restarted", kill_bs),
    "freeze-bs": Fault(f"a BS with tasks in it is frozen (SIGSTOP) for {OUTAGE_S:g} s", freeze_bs),
    "cut-link": Fault(f"the links of a UE with a task at a BS are cut, and restored after {OUTAGE_S:g} s", cut_links),
    "full-queue": Fault(
        "every BS runs one task and has room for one more in its queue", inject_nothing, shorten_queues
    ),
    "restart-ue": Fault("a UE with a task at a BS is killed (SIGKILL) and restarted", restart_ue),
    "client-leaves": Fault(
        f"{LEAVING_CLIENTS} clients disconnect while their images are generated", disconnect_clients
    ),
    "clock-step": Fault("all wall clocks jump one hour ahead, then one day back", step_clocks, shift_clocks),
}


async def busy_bs(testbed: Testbed) -> Process:
    """Wait for a BS with running tasks; the first one. Raises ``UserError`` if there is none for a minute."""
    async with httpx2.AsyncClient(trust_env=False) as client:

        async def find() -> Process | None:
            for bs in testbed.bss:
                if (await client.get(bs.url + LOAD_PATH)).json()["running"]:
                    return bs
            return None

        return await _wait_for(find)


async def sending_ue(testbed: Testbed) -> int:
    """Wait for a UE with a task at a BS; the first one. Raises ``UserError`` if there is none for a minute."""

    async def find() -> int | None:
        for ue, journal in enumerate(testbed.journals):
            last = {line["task"]: line["event"] for line in read_journal(journal)}
            if "sent" in last.values():
                return ue
        return None

    return await _wait_for(find)


async def _wait_for(find: Callable[[], Awaitable[T | None]]) -> T:
    """Poll until there is something."""
    try:
        async with asyncio.timeout(TARGET_TIMEOUT_S):
            while (found := await find()) is None:
                await asyncio.sleep(POLL_S)
            return found
    except TimeoutError:
        raise UserError("fault: no base station had a task to interrupt; give more seconds or other arrivals") from None
