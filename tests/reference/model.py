"""The oracle: docs/simulator.md told once more, with SimPy, in the most naive way.

It shares no formula and no idea of speed with ``edgebrush.sim``. Every task is a process, every device and
every BS engine is a process, one denoising round is one timeout, and all transfers on the air are moved
forward, at every change anywhere, by one process. Decisions and gains are data: the same ones, given to the
simulator and to this model, must lead to the same outcome of every task.

What happens at one instant happens here in the order in which it was caused; an idle device or engine takes a
task over in the very moment in which it comes, before anything else can happen at that instant.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count
from typing import TYPE_CHECKING

import simpy

if TYPE_CHECKING:
    from edgebrush.profiles import Profile
    from edgebrush.scenario.schema import Bs, RequestKind, Scenario, Ue
    from edgebrush.scenario.schema import Radio as RadioKind

Decide = Callable[["Task"], tuple[int, int, int]]  # -> place (0 = own device, j + 1 = BS j), steps, class
Gain = Callable[[int, int, int], float]  # UE, BS, coherence block -> gain
Process = Generator[simpy.Event, object, object]


@dataclass(frozen=True)
class Task:
    ue: int
    number: int  # the UE's n-th task, from 0
    arrival_s: float
    request: int  # index into scenario.requests
    content: int  # index into scenario.contents


@dataclass
class Outcome:
    """How a task ended. A lost or dropped task has quality 0 and keeps what was spent for it."""

    ue: int
    number: int
    arrival_s: float
    end_s: float
    place: int  # where it was generated, otherwise where it was last; -1 if it was lost before its decision
    steps: int  # as decided; -1 if it was lost before its decision
    service_class: int  # likewise
    delay_s: float
    energy_ue_j: float
    energy_bs_j: float  # its share of the rounds, not weighted
    quality: float
    delay_cost: float
    energy_cost: float
    quality_cost: float
    penalty_cost: float
    cost: float
    refused: bool
    missed: bool
    dropped: bool
    lost: bool


class Fate(Enum):
    """What became of a task at one place."""

    DONE = auto()  # computed there
    DROPPED = auto()  # past its deadline when it would have started computing
    REFUSED = auto()  # the BS did not take it
    LOST = auto()  # no room at its own device either


@dataclass(eq=False)
class Job:
    """A task on its way: what was decided for it and what has been spent for it."""

    task: Task
    request: RequestKind
    level: float  # battery level of its UE when it arrived
    place: int = -1
    steps: int = -1
    service_class: int = -1
    steps_left: int = -1
    energy_ue_j: float = 0.0
    energy_bs_j: float = 0.0
    refused: bool = False
    turn: simpy.Event | None = None  # slotted mode: its UE decides it now
    computed: simpy.Event | None = None  # a device or an engine is through with it; the value is its fate

    def late(self, now: float) -> bool:
        deadline_s = self.request.deadline_s
        return deadline_s is not None and now > self.task.arrival_s + deadline_s


class Queue:
    """Waiting jobs, taken out in (class, entry) order."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Job]] = []
        self._entries = count()

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, job: Job) -> None:
        heapq.heappush(self._heap, (job.service_class, next(self._entries), job))

    def take(self) -> Job:
        return heapq.heappop(self._heap)[-1]


class User:
    """A UE: its battery, its tasks that wait for a slot, and its device, which serves one job at a time."""

    def __init__(self, env: simpy.Environment, kind: Ue, profile: Profile, level: float) -> None:
        self.env, self.kind, self.profile, self.level = env, kind, profile, level
        self.pending: list[Job] = []  # slotted mode
        self.waiting = Queue()
        self.serving: Job | None = None
        self.wake = env.event()
        env.process(self.device())

    def spend(self, job: Job, joules: float) -> None:
        job.energy_ue_j += joules
        self.level = max(0.0, self.level - joules / self.kind.battery_j)

    def enter(self, job: Job) -> simpy.Event | None:
        """Puts the job into the device's queue; None if there is no room."""
        if self.serving is not None and len(self.waiting) >= self.kind.queue_limit:
            return None
        job.computed = self.env.event()
        self.waiting.put(job)
        if self.serving is None:
            self.take_next()
            if self.serving is not None:
                self.wake.succeed()
        return job.computed

    def take_next(self) -> None:
        """Takes a job into service, if one waits; drops those that come too late."""
        self.serving = None
        while self.serving is None and len(self.waiting) > 0:
            job = self.waiting.take()
            if job.late(self.env.now):
                job.computed.succeed(Fate.DROPPED)
            else:
                self.serving = job

    def device(self) -> Process:
        compute, energy = self.profile.compute, self.profile.energy
        while True:
            if self.serving is None:
                self.wake = self.env.event()
                yield self.wake
            job = self.serving
            step_s = compute.round_intercept_s + compute.round_slope_s
            step_j = energy.round_intercept_j + energy.round_slope_j
            work_s = compute.encode_s + job.steps * step_s + compute.decode_s
            yield self.env.timeout(work_s / self.kind.speed)
            self.spend(job, energy.fixed_j + job.steps * step_j)
            job.computed.succeed(Fate.DONE)
            self.take_next()


class Station:
    """A BS: its connections, and its engine, which moves a batch by one denoising step in each round."""

    def __init__(self, env: simpy.Environment, kind: Bs, profile: Profile) -> None:
        self.env, self.kind, self.profile = env, kind, profile
        self.connections = 0
        self.waiting = Queue()
        self.running: list[Job] = []  # whenever any job runs, a round is in progress
        self.wake = env.event()
        env.process(self.engine())

    def admit(self, job: Job) -> simpy.Event | None:
        """Takes the job in; None if it would have to wait and too many wait already."""
        round_in_progress = len(self.running) > 0
        batch_full = len(self.running) >= self.kind.batch_limit
        would_wait = batch_full or len(self.waiting) > 0 or round_in_progress
        if would_wait and len(self.waiting) >= self.kind.queue_limit:
            return None
        job.computed = self.env.event()
        job.steps_left = job.steps
        self.waiting.put(job)
        if not round_in_progress:
            self.boundary()
            if self.running:
                self.wake.succeed()
        return job.computed

    def boundary(self) -> None:
        """Between two rounds: finished jobs leave, then waiting ones enter, or are dropped if too late."""
        for job in [job for job in self.running if job.steps_left == 0]:
            self.running.remove(job)
            job.computed.succeed(Fate.DONE)
        while len(self.running) < self.kind.batch_limit and len(self.waiting) > 0:
            job = self.waiting.take()
            if job.late(self.env.now):
                job.computed.succeed(Fate.DROPPED)
            else:
                self.running.append(job)

    def engine(self) -> Process:
        compute, energy = self.profile.compute, self.profile.energy
        while True:
            if not self.running:
                self.wake = self.env.event()
                yield self.wake
            b = len(self.running)
            entered = sum(job.steps_left == job.steps for job in self.running)
            leaving = sum(job.steps_left == 1 for job in self.running)
            work_s = entered * compute.encode_s + leaving * compute.decode_s
            work_s += compute.round_intercept_s + compute.round_slope_s * b
            yield self.env.timeout(work_s / self.kind.speed)
            for job in self.running:
                job.steps_left -= 1
                job.energy_bs_j += (energy.round_intercept_j + energy.round_slope_j * b) / b
                if job.steps_left == 0:
                    job.energy_bs_j += energy.fixed_j
            self.boundary()


class Direction(Enum):
    UP = auto()
    DOWN = auto()


@dataclass(eq=False)
class Transfer:
    ue: int
    bs: int
    direction: Direction
    bits_left: float
    flows_s: float  # when its first bit arrives, which a link delays
    done: simpy.Event
    rate: float = 0.0  # bits per second since the last change anywhere
    end_s: float = math.inf  # when it ends if nothing changes before


class Radio:
    """All transfers on the air. At any change of any of them, every rate is worked out anew."""

    def __init__(
        self, env: simpy.Environment, kind: RadioKind, users: list[User], stations: list[Station], gain: Gain
    ) -> None:
        self.env, self.kind, self.users, self.stations, self.gain = env, kind, users, stations, gain
        noise_dbm_per_hz = self.kind.noise_dbm_per_hz + self.kind.noise_figure_db
        self.noise_w_per_hz = 10.0 ** ((noise_dbm_per_hz - 30.0) / 10.0)
        self.block = 0
        self.transfers: list[Transfer] = []
        self.changed = env.event()
        env.process(self.blocks())
        env.process(self.air())

    def send(self, ue: int, bs: int, direction: Direction, bits: float) -> simpy.Event:
        link = self.stations[bs].kind.link
        flows_s = self.env.now if link is None else self.env.now + link.round_trip_s / 2
        transfer = Transfer(ue, bs, direction, bits, flows_s, self.env.event())
        self.transfers.append(transfer)
        self.change()
        return transfer.done

    def change(self) -> None:
        if not self.changed.triggered:
            self.changed.succeed()

    def blocks(self) -> Process:
        """Counts the coherence blocks."""
        while True:
            yield from until(self.env, (self.block + 1) * self.kind.coherence_s)
            self.block += 1
            self.change()

    def air(self) -> Process:
        """Moves the bits: waits for the first end or for a change, and sees how far everyone has come."""
        while True:
            since = self.env.now
            flowing = [transfer for transfer in self.transfers if transfer.flows_s <= since]
            sharing = Counter((transfer.bs, transfer.direction) for transfer in flowing)
            first = math.inf
            for transfer in self.transfers:
                if transfer not in flowing:
                    transfer.rate, transfer.end_s = 0.0, math.inf
                    first = min(first, transfer.flows_s - since)
                    continue
                transfer.rate = self.rate(transfer, sharing)
                left_s = transfer.bits_left / transfer.rate if transfer.rate > 0 else math.inf
                transfer.end_s = since + left_s
                first = min(first, left_s)
            self.changed = self.env.event()
            yield self.env.timeout(first) | self.changed
            for transfer in list(self.transfers):
                sent = transfer.rate * (self.env.now - since)
                transfer.bits_left = max(0.0, transfer.bits_left - sent)
                if transfer.end_s <= self.env.now:
                    self.transfers.remove(transfer)
                    transfer.done.succeed()

    def rate(self, transfer: Transfer, sharing: Counter[tuple[int, Direction]]) -> float:
        """Bits per second of a transfer among the ``sharing`` transfers of each BS and direction."""
        ue, bs, direction = transfer.ue, transfer.bs, transfer.direction
        n = sharing[bs, direction]
        if (link := self.stations[bs].kind.link) is not None:
            return (link.up_bps if direction is Direction.UP else link.down_bps) / n
        band_hz = self.stations[bs].kind.bandwidth_hz
        noise_w = self.noise_w_per_hz * band_hz
        if self.kind.interference:
            noise_w += self.interference_w(transfer, sharing)
        if direction is Direction.UP:
            power_w = self.users[ue].kind.radiated_w
        else:
            power_w = self.stations[bs].kind.power_w / n
        snr = power_w * self.gain(ue, bs, self.block) / (noise_w / n)
        return band_hz / n * math.log1p(snr) / math.log(2.0)

    def interference_w(self, transfer: Transfer, sharing: Counter[tuple[int, Direction]]) -> float:
        """What the receiver of a transfer hears, over the whole band, from other cells."""
        heard_w = 0.0
        if transfer.direction is Direction.UP:
            for other in self.transfers:
                if other.direction is Direction.UP and other.bs != transfer.bs:
                    power_w = self.users[other.ue].kind.radiated_w
                    share = 1.0 / sharing[other.bs, Direction.UP]
                    heard_w += power_w * self.gain(other.ue, transfer.bs, self.block) * share
        else:
            for bs, station in enumerate(self.stations):
                if bs != transfer.bs and sharing[bs, Direction.DOWN] > 0:
                    heard_w += station.kind.power_w * self.gain(transfer.ue, bs, self.block)
        return heard_w


class World:
    """All of it, and the life of a task."""

    def __init__(
        self,
        scenario: Scenario,
        ue_profiles: Sequence[Profile],
        bs_profiles: Sequence[Profile],
        decide: Decide,
        gain: Gain,
        battery_level: Sequence[float],
    ) -> None:
        self.env = env = simpy.Environment()
        self.scenario, self.decide = scenario, decide
        ue_kinds = [kind for kind in scenario.ues for _ in range(kind.count)]
        bs_kinds = [kind for kind in scenario.bss for _ in range(kind.count)]
        self.users = [
            User(env, kind, profile, level)
            for kind, profile, level in zip(ue_kinds, ue_profiles, battery_level, strict=True)
        ]
        self.stations = [Station(env, kind, profile) for kind, profile in zip(bs_kinds, bs_profiles, strict=True)]
        self.radio = Radio(env, scenario.radio, self.users, self.stations, gain)
        self.slotted = scenario.decision.interval_s > 0
        if self.slotted:
            env.process(self.slots())

    def run(self, tasks: Sequence[Task]) -> list[Outcome]:
        return self.env.run(until=self.env.process(self.arrivals(tasks)))

    def arrivals(self, tasks: Sequence[Task]) -> Process:
        """Starts each task's life at its arrival, and ends when the last life has ended."""
        lives = []
        for task in tasks:
            if task.arrival_s > self.env.now:
                yield from until(self.env, task.arrival_s)
            lives.append(self.env.process(self.life(task)))
        outcomes = []
        for life in lives:
            outcomes.append((yield life))
        return outcomes

    def slots(self) -> Process:
        """At every multiple of the interval each UE that has a pending task decides its oldest one."""
        for slot in count():
            yield from until(self.env, slot * self.scenario.decision.interval_s)
            yield self.env.timeout(0.0)  # a task that arrives at this very instant is pending already
            for user in self.users:
                if user.pending:
                    user.pending.pop(0).turn.succeed()

    def life(self, task: Task) -> Process:
        user = self.users[task.ue]
        job = Job(task, self.scenario.requests[task.request], user.level)

        if self.slotted:
            if len(user.pending) >= user.kind.queue_limit:
                return self.outcome(job, Fate.LOST)
            job.turn = self.env.event()
            user.pending.append(job)
            yield job.turn

        job.place, job.steps, job.service_class = self.decide(task)
        if job.place > 0:
            fate = yield from self.offload(job)
            if fate is not Fate.REFUSED:
                return self.outcome(job, fate)
            job.refused = True
            job.place = 0

        computed = user.enter(job)
        if computed is None:
            return self.outcome(job, Fate.LOST)
        fate = yield computed
        return self.outcome(job, fate)

    def offload(self, job: Job) -> Process:
        """Up, admission, engine, down."""
        env, ue, bs = self.env, job.task.ue, job.place - 1
        user, station = self.users[ue], self.stations[bs]
        if station.connections >= station.kind.connection_limit:
            return Fate.REFUSED
        station.connections += 1

        start = env.now
        yield self.radio.send(ue, bs, Direction.UP, job.request.bits_in)
        user.spend(job, user.kind.transmit_w * (env.now - start))

        start = env.now
        computed = station.admit(job)
        if computed is None:
            station.connections -= 1
            return Fate.REFUSED
        fate = yield computed
        user.spend(job, user.kind.standby_w * (env.now - start))

        if fate is Fate.DONE and self.scenario.radio.downlink:
            start = env.now
            yield self.radio.send(ue, bs, Direction.DOWN, job.request.bits_out)
            user.spend(job, user.kind.receive_w * (env.now - start))
        station.connections -= 1
        return fate

    def outcome(self, job: Job, fate: Fate) -> Outcome:
        """The account of a task that ends now."""
        task, request, prices = job.task, job.request, self.scenario.cost
        lost, dropped = fate is Fate.LOST, fate is Fate.DROPPED
        missed = dropped or (fate is Fate.DONE and job.late(self.env.now))
        quality = self.quality(job) if fate is Fate.DONE else 0.0
        delay_s = self.env.now - task.arrival_s

        delay_cost = request.delay_weight * delay_s / prices.delay_ref_s
        care = 1.0 + self.users[task.ue].kind.battery_care * (1.0 - job.level)
        energy_j = job.energy_ue_j + prices.bs_energy_weight * job.energy_bs_j
        energy_cost = request.energy_weight * care * energy_j / prices.energy_ref_j
        quality_cost = request.quality_weight * (1.0 - quality)
        penalty_cost = (prices.missed if missed else 0.0) + (prices.lost if lost else 0.0)
        return Outcome(
            ue=task.ue,
            number=task.number,
            arrival_s=task.arrival_s,
            end_s=self.env.now,
            place=job.place,
            steps=job.steps,
            service_class=job.service_class,
            delay_s=delay_s,
            energy_ue_j=job.energy_ue_j,
            energy_bs_j=job.energy_bs_j,
            quality=quality,
            delay_cost=delay_cost,
            energy_cost=energy_cost,
            quality_cost=quality_cost,
            penalty_cost=penalty_cost,
            cost=delay_cost + energy_cost + quality_cost + penalty_cost,
            refused=job.refused,
            missed=missed,
            dropped=dropped,
            lost=lost,
        )

    def quality(self, job: Job) -> float:
        maker = self.users[job.task.ue] if job.place == 0 else self.stations[job.place - 1]
        curve = maker.profile.quality
        difficulty = self.scenario.contents[job.task.content].difficulty
        return curve.ceiling / (1.0 + (difficulty * curve.half_steps / job.steps) ** curve.sharpness)


def until(env: simpy.Environment, time_s: float) -> Process:
    """Sleeps until exactly ``time_s``: in two steps, the second exact, where now + delay would be rounded."""
    delay = time_s - env.now
    if env.now + delay != time_s:
        yield env.timeout(math.nextafter(delay, 0.0))
        delay = time_s - env.now
    if delay > 0:
        yield env.timeout(delay)


def run(
    scenario: Scenario,
    ue_profiles: list[Profile],
    bs_profiles: list[Profile],
    tasks: list[Task],
    decide: Decide,
    gain: Gain,
    battery_level: Sequence[float],
) -> list[Outcome]:
    """What becomes of each task, in the order of ``tasks`` (which is that of their arrivals).

    ``decide(task)`` gives (place, steps, class), place 0 being the own device and j + 1 BS j; ``gain(ue, bs,
    block)`` gives the full gain in a coherence block; ``battery_level[i]`` is the level of UE i at time 0.
    UEs and BSs are numbered by expanding the scenario's classes in order; profiles come one for each.
    """
    return World(scenario, ue_profiles, bs_profiles, decide, gain, battery_level).run(tasks)
