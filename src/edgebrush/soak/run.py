"""A soak: storms of random faults at running agents and stations, with the invariants checked throughout.

Invariants: every accepted task ends once, with an image or an error; images are whole; no request stays open; each
agent uses each station again within ``RECOVERY_S`` of the end of the last fault that affected both; no process ends by
itself; memory and descriptors of each process stay flat.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgebrush.errors import UserError
from edgebrush.testbed.faults import shift_clocks
from edgebrush.testbed.processes import run_all, run_interruptible
from edgebrush.testbed.testbed import Testbed

from .fault_actions import inject
from .fault_schedule import KINDS, PlannedFault, Storm, draw_storm
from .journal_watch import JournalWatch, Pair, request_of
from .load_generator import LoadGenerator
from .vital_signs import VitalSigns, growth_problems, measure

RECOVERY_S = 10.0
CALM_S = 5.0  # at least, between two storms
PROBE_S, PROBE_TASKS = 2.0, 12
OPEN_S = 60.0  # a request that is open for longer hangs
WATCH_S = 0.25  # between two looks at the journals

Report = Callable[[str], None]


@dataclass(frozen=True)
class Recovery:
    """How long after the end of the last fault an agent used a station again, at most ``2 * RECOVERY_S``."""

    storm: int
    agent: str
    station: str
    seconds: float


@dataclass
class Soak:
    """What a soak has found. ``violations`` must stay empty."""

    seed: int
    requested: int = 0
    images: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # by status and code
    lost: int = 0
    twice: int = 0
    failed_over: int = 0
    places: Counter[str] = field(default_factory=Counter)  # where the images were made
    seconds: float = 0.0
    storms: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # by kind
    recoveries: list[Recovery] = field(default_factory=list)
    signs: list[VitalSigns] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def run_soak(
    testbed: Testbed,
    seed: int,
    tasks: int,
    rate_hz: float,
    *,
    first_storm: int = 0,
    kinds: Sequence[str] = tuple(KINDS),
    report: Report = lambda line: None,
) -> Soak:
    """Run storm after storm until at least ``tasks`` tasks have been requested. ``report`` gets a line for each."""
    shift_clocks(testbed)
    runner = Runner(testbed, Soak(seed), tasks, rate_hz, first_storm, kinds, report)
    return run_interruptible(runner.run())


class Runner:
    """Runs load, storms and watch concurrently."""

    def __init__(
        self,
        testbed: Testbed,
        soak: Soak,
        tasks: int,
        rate_hz: float,
        first_storm: int,
        kinds: Sequence[str],
        report: Report,
    ):
        self.testbed, self.soak, self.tasks = testbed, soak, tasks
        self.first_storm, self.kinds, self.report = first_storm, kinds, report
        self.load = LoadGenerator(testbed, rate_hz, f"seed{soak.seed}")
        self.watch = JournalWatch(testbed.journals, testbed.names)
        self.storm = Storm(first_storm, ())  # the present or last one
        self.start_s = 0.0
        self.ended = False

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.start_s

    async def run(self) -> Soak:
        async with self.testbed:
            self.start_s = time.monotonic()
            await run_all([self.load.run(), self._watch(), self._conduct()])
            self._settle()
        return self.soak

    async def _conduct(self) -> None:
        """Storms and calms, one at least, until enough tasks have been requested; then the end of all tasks."""
        await asyncio.sleep(CALM_S)
        self._measure()
        for number in itertools.count(self.first_storm):
            await self._weather(number)
            if self.load.requested >= self.tasks:
                break
        self.load.stop()
        until = time.monotonic() + OPEN_S
        while (self.load.open or self.watch.open) and time.monotonic() < until:
            await asyncio.sleep(WATCH_S)
        self.ended = True

    async def _weather(self, number: int) -> None:
        """One storm, and the calm after it."""
        ues, bss = len(self.testbed.ues), len(self.testbed.bss)
        self.storm = draw_storm(self.soak.seed, number, ues, bss, self.kinds)
        self.watch.forget_uses()
        ends_s: dict[Pair, float] = {}
        await run_all(self._inject(fault, ends_s) for fault in self.storm.faults)
        recoveries = await self._calm(ends_s)
        self.soak.storms += 1
        self.soak.recoveries += recoveries
        self._measure()
        self.report(self._line(recoveries))

    async def _inject(self, fault: PlannedFault, ends_s: dict[Pair, float]) -> None:
        """Inject a fault at its time, and note for each pair that it affects when it ended."""
        await asyncio.sleep(fault.at_s)
        try:
            await inject(fault, self.testbed, self.load.burst)
        except UserError as error:  # a process that does not start again
            self._violate(str(error))
        self.soak.faults[fault.kind] += 1
        ends_s.update({pair: time.monotonic() for pair in self.testbed.links if fault.affects(*pair)})

    async def _calm(self, ends_s: dict[Pair, float]) -> list[Recovery]:
        """Wait for ``CALM_S``, and until each agent has used each station again whose faults ended at ``ends_s``.

        Equal stations may all have room, and an agent then need not use each of them. So the agents that have not get
        ``PROBE_TASKS`` at once every ``PROBE_S``: the cheapest choices for these are all the stations.
        """
        calm_until, probe_at = time.monotonic() + CALM_S, time.monotonic() + PROBE_S
        waiting, recoveries = dict(ends_s), []
        probes: list[asyncio.Task[None]] = []
        while waiting or time.monotonic() < calm_until:
            await asyncio.sleep(WATCH_S)
            if waiting and time.monotonic() >= probe_at:
                probe_at += PROBE_S
                probes += [
                    asyncio.create_task(self.load.burst(ue, PROBE_TASKS)) for ue in {pair[0] for pair in waiting}
                ]
            for pair, since_s in list(waiting.items()):
                used_s = self.watch.first_use_s(pair, since_s)
                took_s = min((used_s or time.monotonic()) - since_s, 2 * RECOVERY_S)
                if used_s is None and took_s < 2 * RECOVERY_S:
                    continue
                del waiting[pair]
                recoveries.append(self._recovery(pair, took_s))
        await asyncio.gather(*probes)
        return recoveries

    def _recovery(self, pair: Pair, took_s: float) -> Recovery:
        agent, station = self.testbed.ues[pair[0]].name, self.testbed.names[pair[1]]
        if took_s > RECOVERY_S:
            self._violate(f"{agent} did not use the idle station {station} within {took_s:.1f} s")
        return Recovery(self.storm.number, agent, station, took_s)

    async def _watch(self) -> None:
        """Read the journals, and check what must hold at any time."""
        known: set[str] = set()
        while not self.ended:
            with contextlib.suppress(UserError):  # a journal that its agent is opening; the next look reads it
                self.watch.read()
            now = time.monotonic()
            hanging = {key for key, since in self.load.open.items() if now - since > OPEN_S}
            found = {f"request {key} is open for more than {OPEN_S:g} s" for key in hanging}
            found |= {f"task {task} was accepted or ended more than once" for task in self.watch.twice}
            found |= {f"request {key} was answered with a damaged image" for key in self.load.damaged}
            for each in sorted(found - known):
                self._violate(each)
            known |= found
            await asyncio.sleep(WATCH_S)

    def _settle(self) -> None:
        """The accounts at the end."""
        self.watch.read()
        soak, load, watch = self.soak, self.load, self.watch
        soak.seconds, soak.requested = self.elapsed_s, load.requested
        soak.images, soak.errors, soak.places = len(load.images), load.errors, watch.places
        soak.failed_over, soak.twice = watch.failed_over, len(watch.twice)
        lost = {*map(request_of, watch.open), *load.open} | (load.images - {request_of(task) for task in watch.images})
        soak.lost = len(lost)
        if lost:
            self._violate(f"{len(lost)} tasks have not ended or have no image in the journal: {sorted(lost)[:5]}")
        if load.answered != load.requested:
            self._violate(f"{load.requested} requests, but {load.answered} answers")
        for problem in growth_problems(soak.signs):
            self._violate(problem)

    def _measure(self) -> None:
        """Memory and descriptors of all processes, in a calm, when all of them run."""
        for each in (*self.testbed.bss, *self.testbed.ues):
            assert each.process
            if signs := measure(each.name, each.process.pid, self.elapsed_s, self.load.answered):
                self.soak.signs.append(signs)
            else:
                self._violate(f"{each.name} has ended by itself, with exit code {each.process.returncode}")

    def _violate(self, what: str) -> None:
        """Record a violation with all that is needed to replay it."""
        sentence = (
            f"{self.elapsed_s:.1f} s: {what}; {self.storm}; replay: python benchmarks/soak.py --seed {self.soak.seed} "
            f"--storm {self.storm.number}; logs and journals: {self.testbed.folder}"
        )
        self.soak.violations.append(sentence)
        self.report(f"VIOLATION at {sentence}")

    def _line(self, recoveries: Sequence[Recovery]) -> str:
        load = self.load
        worst = f"{max(each.seconds for each in recoveries):.1f} s" if recoveries else "-"
        kinds = ", ".join(fault.kind for fault in self.storm.faults)
        return (
            f"{self.elapsed_s:.0f} s, storm {self.storm.number} ({kinds}): {load.requested} tasks, {len(load.images)} "
            f"images, {load.errors.total()} errors, {len(load.open)} open, worst recovery {worst}"
        )
