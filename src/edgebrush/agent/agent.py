"""The UE agent: for each task it observes, decides, makes the image itself or has a BS make it, and sees it through.

Every task that was accepted ends once, in an image or in an error: what fails at one place is tried at the next that
the policy likes, each place once; what a dying process leaves, the next one takes up from the journal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.decision import observation as obs
from edgebrush.decision.action_space import split
from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Request
from edgebrush.diffusion.images import png
from edgebrush.diffusion.onnx import load_model
from edgebrush.diffusion.pacing import PacedBackend
from edgebrush.errors import UserError
from edgebrush.policies.load import load_policy
from edgebrush.policies.protocol import Policy
from edgebrush.scenario.expand import expand_ues
from edgebrush.scenario.schema import Scenario

from .device import Device, DeviceError
from .journal import Ended, Journal, Task
from .observer import Observer, Wish
from .stations import Assignment, RemoteStation, StationError, remote_stations

OWN = "own"  # the UE's device, as a place
PATIENCE, PATIENCE_S = 3.0, 2.0  # a BS may take so many times what was expected, and so many seconds more
DEADLINE_PASSED, CLIENT_LEFT = "its deadline has passed", "the client has left"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """Where a task goes, with how many steps, in which class; ``expected_s`` and ``why`` by what the UE knew."""

    slot: int
    place: str
    steps: int
    service_class: int
    expected_s: float
    why: dict[str, Any]


class Agent:
    """One UE at work. ``draw`` gives the policy its randomness; times are on ``clock``, monotonic."""

    def __init__(
        self,
        observer: Observer,
        policy: Policy,
        stations: Sequence[RemoteStation],
        device: Device,
        journal: Journal,
        draw: Callable[[], float] = np.random.default_rng().random,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.observer, self.policy, self.stations, self.device = observer, policy, stations, device
        self.journal, self.draw, self.clock = journal, draw, clock
        self.places = [OWN, *(station.name for station in stations)]
        self.at_work: dict[str, asyncio.Task[Ended]] = {}
        self.abandoned: set[str] = set()
        self.listening: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Hear of every BS, or that it is away; then end what an earlier process had accepted."""
        await asyncio.gather(*(station.ask() for station in self.stations))
        interval_s = self.observer.scenario.broadcast_interval_s
        if interval_s < np.inf:
            self.listening = [asyncio.create_task(station.listen(interval_s)) for station in self.stations]
        for task in self.journal.unended:
            self.journal.write(task.id, "resumed")
            self._begin(replace(task, accepted_s=min(task.accepted_s, self.clock())))

    async def stop(self) -> None:
        """Stop at once. Tasks that have not ended stay in the journal."""
        for each in [*self.listening, *self.at_work.values()]:
            each.cancel()
        await asyncio.gather(*self.listening, *self.at_work.values(), return_exceptions=True)
        await asyncio.gather(*(station.close() for station in self.stations))
        self.device.close()
        self.journal.close()

    async def make(self, task: Task) -> Ended:
        """How a task ends. A task that is known by its id is not made again.

        Whoever waits may be cancelled: the task goes on; ``abandon`` ends it.
        """
        known = self.journal.result(task.id)
        if known is not None:
            return known
        if task.id not in self.at_work:
            task = replace(task, accepted_s=self.clock())
            self.journal.accept(task)
            self._begin(task)
        return await asyncio.shield(self.at_work[task.id])

    def abandon(self, task: str) -> None:
        """End a task as one that nobody waits for any longer."""
        if task in self.at_work:
            self.abandoned.add(task)
            self.at_work[task].cancel()

    def _begin(self, task: Task) -> None:
        self.at_work[task.id] = asyncio.create_task(self._see_through(task), name=task.id)

    async def _see_through(self, task: Task) -> Ended:
        """Make a task and note its end: the only place where a task ends."""
        try:
            ended = await self._make(task)
        except asyncio.CancelledError:
            if task.id not in self.abandoned:  # the process stops, and the next one takes the task up
                raise
            ended = Ended(task.id, None, CLIENT_LEFT)
        except Exception as error:
            log.exception("task %s", task.id)
            ended = Ended(task.id, None, f"the agent failed: {type(error).__name__}: {error}")
        finally:
            self.abandoned.discard(task.id)
            del self.at_work[task.id]
        ended = replace(ended, delay_s=self.clock() - task.accepted_s)
        self.journal.end(ended)
        return ended

    async def _make(self, task: Task) -> Ended:
        """Try one place after the other, as the policy likes them."""
        wish = self.observer.wish(task.request, task.prompt, task.accepted_s, task.deadline_s)
        tried: dict[int, str] = {}
        spent_j = 0.0
        while True:
            if self.clock() >= wish.deadline_at:
                return Ended(task.id, None, "; ".join([DEADLINE_PASSED, *tried.values()]), missed=True)
            decision = self.decide(wish, tried)
            if decision is None:
                reasons = [tried.get(0, "own device: its queue is full"), *(tried[slot] for slot in tried if slot > 0)]
                return Ended(task.id, None, f"no place is left: {'; '.join(reasons)}", attempts=len(tried))
            self.journal.write(
                task.id,
                "decided",
                place=decision.place,
                steps=decision.steps,
                service_class=decision.service_class,
                **decision.why,
            )
            began = self.clock()
            try:
                ended = await self._make_at(decision, task, wish)
            except (DeviceError, StationError) as error:
                self.journal.write(task.id, "failed over", place=decision.place, reason=str(error))
                tried[decision.slot] = str(error)
                if decision.slot > 0:
                    spent_j += self._charge(float(self.observer.device["standby_w"]) * (self.clock() - began))
                continue
            return replace(
                ended,
                place=decision.place,
                steps=decision.steps,
                service_class=decision.service_class,
                energy_ue_j=ended.energy_ue_j + spent_j,
                attempts=len(tried) + 1,
                missed=self.clock() > wish.deadline_at,
            )

    async def _make_at(self, decision: Decision, task: Task, wish: Wish) -> Ended:
        left_s = wish.deadline_at - self.clock()
        if decision.slot == 0:
            return await self._make_here(decision, task, left_s)
        return await self._send(decision, task, wish, left_s)

    async def _make_here(self, decision: Decision, task: Task, left_s: float) -> Ended:
        prompt = Prompt(task.prompt, task.negative, task.guidance)
        request = Request(prompt, decision.steps, task.seed, decision.service_class)
        job = await self.device.make(request, left_s if left_s < np.inf else None)
        assert job.image is not None
        spent_j = self._charge(self.observer.own_j(decision.steps))
        return Ended(task.id, png(job.image), queue_s=job.queue_s, compute_s=job.compute_s, energy_ue_j=spent_j)

    async def _send(self, decision: Decision, task: Task, wish: Wish, left_s: float) -> Ended:
        station, fixed = self.stations[decision.slot - 1], self.observer.device
        deadline_s = left_s if left_s < np.inf else None
        sent = Assignment(task, decision.steps, decision.service_class, wish.bits_in, wish.bits_out, deadline_s)
        self.journal.write(task.id, "sent", place=decision.place)
        made = await station.make(sent, self._patience_s(decision, left_s))
        spent_j = self._charge(
            float(
                fixed["transmit_w"] * made.up_s + fixed["standby_w"] * made.server_s + fixed["receive_w"] * made.down_s
            )
        )
        return Ended(
            task.id,
            made.image,
            queue_s=made.queue_s,
            compute_s=made.compute_s,
            energy_ue_j=spent_j,
            energy_bs_j=made.energy_j,
        )

    def _patience_s(self, decision: Decision, left_s: float) -> float:
        """How long a BS may take: some times what was expected, and not so long that the own device would be late."""
        grid = self.observer.step_grid
        own_s = self.device.queue().busy_s + self.device.seconds(grid[len(grid) // 2])
        return min(PATIENCE * decision.expected_s + PATIENCE_S, max(left_s - own_s, 0.5 * left_s))

    def _charge(self, joules: float) -> float:
        self.observer.charge(joules)
        return joules

    # -- the decision

    def decide(self, wish: Wish, tried: Collection[int] = ()) -> Decision | None:
        """What the policy chooses among the places not tried yet; None where none of them can be asked.

        BSs that are away are left out, unless nothing else is left.
        """
        away = {slot for slot, station in enumerate(self.stations, 1) if station.away}
        for masked in ({*tried, *away}, set(tried)):
            observation = self.observe(wish, masked)
            present = self.observer.present
            if present:
                return self._chosen(observation, present)
        return None

    def observe(self, wish: Wish, masked: Collection[int]) -> np.ndarray:
        """The local observation now, see ``Observer.observe``."""
        now = self.clock()
        return self.observer.observe(
            wish, self.device.queue(), [station.seen(now) for station in self.stations], now, masked
        )

    def _chosen(self, observation: np.ndarray, present: list[int]) -> Decision:
        """The policy's choice; the cheapest of all where it insists on a place that is not present."""
        shape, cost = self.observer.layout.shape, self.observer.cost
        choice = int(self.policy.choose(observation[None], np.array([self.draw()]))[0])
        if split(shape, choice)[0] not in present:
            choice = min(
                (slot * shape.steps * shape.classes + int(cost[slot].argmin()) for slot in present),
                key=lambda each: cost.flat[each],
            )
        slot, step_index, service_class = split(shape, choice)
        steps = self.observer.step_grid[step_index]
        row = self.observer.candidates[slot]
        expected_s = row[obs.UP_S] + row[obs.WAIT_S + service_class] + row[obs.FIXED_S] + steps * row[obs.STEP_S]
        expected_s += row[obs.DOWN_S]
        why = self._reason(present, float(cost[slot, step_index, service_class]), float(expected_s))
        return Decision(slot, self.places[slot], steps, service_class, float(expected_s), why)

    def _reason(self, present: list[int], cost: float, expected_s: float) -> dict[str, Any]:
        """What the log says of a decision: what was expected of it and of the best at each place; the loads."""
        now = self.clock()
        best = {self.places[slot]: round(float(self.observer.cost[slot].min()), 6) for slot in present}
        loads = {}
        for station in self.stations:
            board = station.seen(now).board
            loads[station.name] = {
                "running": board.running,
                "steps_left": board.steps_left,
                "waiting": list(board.waiting),
                "age_s": round(now - board.time, 3),
                "away": station.away,
            }
        return {
            "expected_cost": round(cost, 6),
            "expected_s": round(expected_s, 4),
            "best": best,
            "loads": loads,
            "battery": round(self.observer.level, 4),
        }


def build_agent(
    scenario: Scenario,
    ue: int,
    policy: str,
    urls: Mapping[str, str],
    journal: Path,
    *,
    model: str = "light",
    paced: bool = False,
    battery_level: float | None = None,
) -> Agent:
    """The agent of UE number ``ue`` (from 1) of a scenario; ``urls`` says where its BSs are, by name.

    ``policy`` is a rule's name or a trained policy's folder. ``paced``: the device is as slow as the scenario says.
    Raises ``UserError`` where one of these cannot be used.
    """
    if not 1 <= ue <= scenario.ue_count:
        raise UserError(f"ue = {ue}: {scenario.name} has UEs 1 to {scenario.ue_count}")
    kind, profile = expand_ues(scenario)[ue - 1]
    level = sum(kind.battery_level) / 2 if battery_level is None else battery_level
    observer = Observer(scenario, ue - 1, level)
    shape = observer.layout.shape
    decides = load_policy(policy, scenario)
    stations = remote_stations(observer, urls)
    backend = PacedBackend(load_model(model), profile.compute, kind.speed if paced else None, lambda seconds: None)
    device = Device(backend, observer.step_grid[-1], kind.queue_limit, *observer.own_parts_s, shape.classes)
    return Agent(observer, decides, stations, device, Journal(journal))
