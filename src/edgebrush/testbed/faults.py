"""What may go wrong with a testbed at work, done to it on purpose. Whatever happens, every task must end once.

A fault may change how processes are started (``prepare``), and strikes while the arrivals come.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from edgebrush.api.schema import IMAGES_PATH, LOAD_PATH
from edgebrush.errors import UserError

from .episode import Episode
from .outcomes import Audit, audit, read_lines
from .processes import Process, interruptible
from .testbed import Testbed

STRIKE_SHARE = 0.3  # of the arrivals' time, after which the fault strikes
AWAY_S = 4.0  # how long what comes back is away
POLL_S = 0.02
LEAVING = 5  # clients who do not wait for their images
STEPS_S = (3600.0, -86_400.0)  # of the wall clock

# A wall clock that is off by what a file says: what the processes under ``clock-step`` load before anything else.
CLOCK = """\
import datetime, pathlib, time
step, real_time, real = pathlib.Path({file!r}), time.time, datetime.datetime
def off():
    return float(step.read_text() or 0) if step.exists() else 0.0
class Stepped(real):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) + datetime.timedelta(seconds=off())
time.time = lambda: real_time() + off()
time.time_ns = lambda: int(1e9 * time.time())
datetime.datetime = Stepped
"""


@dataclass(frozen=True)
class Fault:
    """``strike`` returns how many tasks it asked for beside the episode's."""

    what: str
    strike: Callable[[Testbed], Awaitable[int]]
    prepare: Callable[[Testbed], None] = lambda testbed: None


def run_fault(name: str, source: str, episode: Episode, policy: str, folder: Path) -> Audit:
    """Live an episode through while a fault strikes; ``folder`` gets the journals and logs. Raises ``UserError``."""
    if name not in FAULTS:
        raise UserError(f"fault = {name!r}: there are {', '.join(FAULTS)}")
    return interruptible(_run(FAULTS[name], source, episode, policy, folder))


async def _run(fault: Fault, source: str, episode: Episode, policy: str, folder: Path) -> Audit:
    folder.mkdir(parents=True, exist_ok=True)
    testbed = Testbed(source, episode, policy, folder)
    fault.prepare(testbed)

    async def strike() -> int:
        await asyncio.sleep(STRIKE_SHARE * episode.seconds)
        return await fault.strike(testbed)

    async with testbed, asyncio.TaskGroup() as group:
        striking = group.create_task(strike())
        await testbed.play()
    return audit(len(episode.arrivals) + striking.result(), testbed.journals)


async def kill_bs(testbed: Testbed) -> int:
    """Kill the first BS that has tasks, and leave it dead."""
    await (await busy_bs(testbed)).kill()
    return 0


async def freeze_bs(testbed: Testbed) -> int:
    frozen = await busy_bs(testbed)
    frozen.send(signal.SIGSTOP)
    await asyncio.sleep(AWAY_S)
    frozen.send(signal.SIGCONT)
    return 0


async def cut_link(testbed: Testbed) -> int:
    """All links of the first UE that has a task at a BS."""
    ue = await sending_ue(testbed)
    links = [link for (end, _), link in testbed.links.items() if end == ue]
    for link in links:
        link.cut()
    await asyncio.sleep(AWAY_S)
    for link in links:
        link.restore()
    return 0


async def nothing(testbed: Testbed) -> int:
    return 0


def short_queues(testbed: Testbed) -> None:
    for bs in testbed.bss:
        bs.arguments += ["--batch-limit", "1", "--queue-limit", "1"]  # the last one counts


async def restart_ue(testbed: Testbed) -> int:
    """Kill the first UE that has a task at a BS; the next agent takes its journal up."""
    await testbed.ues[await sending_ue(testbed)].restart()
    return 0


async def clients_leave(testbed: Testbed) -> int:
    """Clients that hang up once their task is under way."""
    for seed in range(LEAVING):
        ue = seed % len(testbed.ues)
        async with httpx.AsyncClient(timeout=None, trust_env=False) as client:
            body = {"prompt": testbed.episode.arrivals[0].prompt, "seed": seed}
            asking = asyncio.create_task(client.post(testbed.ues[ue].url + IMAGES_PATH, json=body))
            while not any(line.get("wanted", {}).get("seed") == seed for line in read_lines(testbed.journals[ue])):
                await asyncio.sleep(POLL_S)
            asking.cancel()
            await asyncio.wait([asking])
    return LEAVING


def wrong_clocks(testbed: Testbed) -> None:
    file = testbed.folder / "clock-step"
    (testbed.folder / "sitecustomize.py").write_text(CLOCK.format(file=str(file.absolute())))
    path = os.pathsep.join([str(testbed.folder.absolute()), *filter(None, [os.environ.get("PYTHONPATH")])])
    for process in (*testbed.bss, *testbed.ues):
        process.environment["PYTHONPATH"] = path


async def step_clocks(testbed: Testbed) -> int:
    for step_s in STEPS_S:
        (testbed.folder / "clock-step").write_text(str(step_s))
        await asyncio.sleep(0.5 * AWAY_S)
    return 0


FAULTS = {
    "kill-bs": Fault("a BS with tasks in it is killed (SIGKILL) and stays dead", kill_bs),
    "freeze-bs": Fault(f"a BS with tasks in it is frozen (SIGSTOP) for {AWAY_S:g} s", freeze_bs),
    "cut-link": Fault(f"the links of a UE with a task at a BS are cut, and restored after {AWAY_S:g} s", cut_link),
    "full-queue": Fault("every BS runs one task and lets one wait", nothing, short_queues),
    "restart-ue": Fault("a UE with a task at a BS is killed (SIGKILL) and started again", restart_ue),
    "client-leaves": Fault(f"{LEAVING} clients hang up while their images are made", clients_leave),
    "clock-step": Fault("all wall clocks jump an hour ahead, then a day back", step_clocks, wrong_clocks),
}


async def busy_bs(testbed: Testbed) -> Process:
    """The first BS that has tasks running, as soon as one has."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            for bs in testbed.bss:
                if (await client.get(bs.url + LOAD_PATH)).json()["running"]:
                    return bs
            await asyncio.sleep(POLL_S)


async def sending_ue(testbed: Testbed) -> int:
    """The first UE that has a task at a BS, as soon as one has."""
    while True:
        for ue, journal in enumerate(testbed.journals):
            last = {line["task"]: line["event"] for line in read_lines(journal)}
            if "sent" in last.values():
                return ue
        await asyncio.sleep(POLL_S)
