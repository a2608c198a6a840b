"""The UE agent: for each task it observes, decides, and generates the image on its own device or at a BS.

Every accepted task ends exactly once, with an image or an error. If one place fails, the agent tries the next one that
the policy chooses, each place once. Tasks that a crashed process leaves unfinished are resumed from the journal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgebrush import traces
from edgebrush.clients.failures import PlaceError, kind_of_task, retry_after
from edgebrush.clients.offload import Offload
from edgebrush.decision import observation as obs
from edgebrush.decision.observation import TaskContext
from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Job, Request
from edgebrush.diffusion.images import png
from edgebrush.journal.journal import Journal, JournalError
from edgebrush.journal.records import Task, TaskResult
from edgebrush.policies.protocol import Policy

from .decisions import Decision
from .device import Device
from .history import History
from .observer import Observer
from .stations import RemoteStation

OWN = "own"  # the name of the UE's own device as a place
TIMEOUT_FACTOR, TIMEOUT_MARGIN_S = 3.0, 2.0  # a BS may take the expected time times the factor, plus the margin
DEADLINE_PASSED, CLIENT_LEFT = "its deadline has passed", "the client has disconnected"

log = logging.getLogger(__name__)


class RepeatMismatch(Exception):
    """A task has the id of an earlier one, but belongs to another request."""


class Agent:
    """One UE. ``draw`` provides the policy's randomness; times are on ``clock``, monotonic."""

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
        self.running: dict[str, asyncio.Task[TaskResult]] = {}
        self.open_tasks: dict[str, Task] = {}  # the running ones
        self.cancelled: set[str] = set()
        self.viewers: dict[str, Callable[[Job], None]] = {}  # of the samples that the own device makes, by task
        self.polls: list[asyncio.Task[None]] = []
        self.history = History()

    async def start(self) -> None:
        """Poll every BS once, start the polling loops, and resume the tasks that an earlier process left unfinished."""
        await asyncio.gather(*(station.poll_load() for station in self.stations))
        interval_s = self.observer.scenario.broadcast_interval_s
        self.polls = [asyncio.create_task(station.poll_loop(interval_s)) for station in self.stations]
        for task in self.journal.unfinished:
            self.journal.write(task.id, "resumed")
            self._start_task(replace(task, accepted_s=min(task.accepted_s, self.clock())), is_accepted=True)

    async def stop(self) -> None:
        """Stop at once. Unfinished tasks stay in the journal."""
        for each in [*self.polls, *self.running.values()]:
            each.cancel()
        await asyncio.gather(*self.polls, *self.running.values(), return_exceptions=True)
        await asyncio.gather(*(station.close() for station in self.stations))
        self.device.close()
        self.journal.close()

    async def generate(self, task: Task) -> TaskResult:
        """Run a task to its end. A task with a known id is not generated again: the first result is returned.

        Cancelling this call does not end the task; ``cancel`` does. Raises ``JournalError`` where the task cannot be
        recorded, ``RepeatMismatch`` as ``check_repeat`` does.
        """
        self.check_repeat(task)
        known = self.journal.result(task.id)
        if known is not None:
            return known
        if task.id not in self.running:
            self._start_task(replace(task, accepted_s=self.clock()))
        return await asyncio.shield(self.running[task.id])

    def check_repeat(self, task: Task) -> None:
        """Raises ``RepeatMismatch`` where a task with the same id is known, but from another request."""
        known = self.open_tasks.get(task.id) or self.journal.task(task.id)
        if known and known.fingerprint and known.fingerprint != task.fingerprint:
            raise RepeatMismatch(task.id)

    def cancel(self, task_id: str) -> None:
        """End a task with an error, because its client has disconnected."""
        if task_id in self.running:
            self.cancelled.add(task_id)
            self.running[task_id].cancel()

    def _start_task(self, task: Task, is_accepted: bool = False) -> None:
        running = asyncio.create_task(self._run(task, is_accepted), name=task.id)
        running.add_done_callback(self._forget)
        self.running[task.id], self.open_tasks[task.id] = running, task

    def _forget(self, done: asyncio.Task[TaskResult]) -> None:
        name = done.get_name()
        del self.running[name], self.open_tasks[name]
        self.cancelled.discard(name)
        if not done.cancelled():
            done.exception()  # asyncio logs an exception that nobody looked at, as where the client has left

    async def _run(self, task: Task, is_accepted: bool) -> TaskResult:
        """Take a task to its end and record that. This is the only place where a task ends."""
        with traces.span("task", parent=traces.remote_parent({}), task=task.id, request=task.request):
            result = replace(await self._result_of(task, is_accepted), delay_s=self.clock() - task.accepted_s)
            self.history.on_end(result)
            await self.journal.end(result)
            return result

    async def _result_of(self, task: Task, is_accepted: bool) -> TaskResult:
        """Record a task and generate its image. Raises ``JournalError`` where it cannot be recorded."""
        try:
            if not is_accepted:
                await self.journal.accept(task)
            return await self._try_places(task)
        except JournalError:
            raise
        except asyncio.CancelledError:
            if task.id not in self.cancelled:  # the process stops; the next one resumes the task
                raise
            return TaskResult(task.id, None, CLIENT_LEFT, kind="disconnected")
        except Exception as error:
            log.exception("task %s", task.id, extra={"task": task.id})
            reason = f"the agent failed: {type(error).__name__}: {error}"
            return TaskResult(task.id, None, reason, kind="failed")

    async def _try_places(self, task: Task) -> TaskResult:
        """Try one place after the other, in the order that the policy chooses.

        A place that cannot serve the request, whatever its state, is not tried: the own device where its model does not
        accept the request, and a BS with the model of another one that called the request invalid.
        """
        context = self.observer.task_context(task.request, task.prompt, task.accepted_s, task.deadline_s)
        failures = self._own_refusal(task)
        attempts, spent_j = 0, 0.0
        while True:
            if self.clock() >= context.deadline_at:
                reason = "; ".join([DEADLINE_PASSED, *map(str, failures.values())])
                return TaskResult(task.id, None, reason, missed=True, attempts=attempts, kind="deadline")
            decision = self.decide(context, failures.keys() | self._pointless(failures))
            if decision is None:
                return self._no_place_left(task, failures, attempts)
            self._record_decision(task, decision)
            attempts += 1
            start = self.clock()
            with traces.span("attempt", "client" if decision.slot else "internal", **decision.attributes):
                try:
                    result = await self._generate_at(decision, task, context)
                except PlaceError as error:
                    self.journal.write(task.id, "failed over", place=decision.place, reason=str(error))
                    self.history.on_failover(task.id, decision.place, error)
                    failures[decision.slot] = error
                    if decision.slot > 0:
                        spent_j += self._charge(float(self.observer.device["standby_w"]) * (self.clock() - start))
                    continue
            return replace(
                result,
                place=decision.place,
                steps=decision.steps,
                service_class=decision.service_class,
                energy_ue_j=result.energy_ue_j + spent_j,
                attempts=attempts,
                missed=self.clock() > context.deadline_at,
            )

    def _own_refusal(self, task: Task) -> dict[int, PlaceError]:
        """The error of the own device, by slot, where its model does not accept the request."""
        try:
            self.device.check(own_request(task, self.observer.step_grid[0]))
        except PlaceError as error:
            return {0: error}
        return {}

    def _pointless(self, failures: Mapping[int, PlaceError]) -> set[int]:
        """The slots of BSs with a model that called the request invalid at another BS."""
        models = {self.stations[slot - 1].model for slot, error in failures.items() if slot and error.kind == "invalid"}
        return {slot for slot, station in enumerate(self.stations, 1) if station.model in models}

    def _no_place_left(self, task: Task, failures: dict[int, PlaceError], attempts: int) -> TaskResult:
        if 0 not in failures and self.observer.common["local"] == 1:
            failures = {0: self.device.full_error()} | failures
        reasons = "; ".join(str(failures[slot]) for slot in sorted(failures)) or "no base station has an address"
        kind = kind_of_task(failures.values())
        reason = f"the request is invalid: {reasons}" if kind == "invalid" else f"no place is left: {reasons}"
        wait_s = retry_after(failures.values())
        return TaskResult(task.id, None, reason, attempts=attempts, kind=kind, retry_after_s=wait_s)

    def _record_decision(self, task: Task, decision: Decision) -> None:
        self.history.on_decision(task.id, decision)
        self.journal.write(
            task.id,
            "decided",
            place=decision.place,
            steps=decision.steps,
            service_class=decision.service_class,
            **decision.reason,
        )

    async def _generate_at(self, decision: Decision, task: Task, context: TaskContext) -> TaskResult:
        left_s = context.deadline_at - self.clock()
        if decision.slot == 0:
            return await self._generate_locally(decision, task, left_s)
        return await self._offload(decision, task, context, left_s)

    async def _generate_locally(self, decision: Decision, task: Task, left_s: float) -> TaskResult:
        request = own_request(task, decision.steps, decision.service_class)
        job = await self.device.generate(request, left_s if left_s < np.inf else None, self.viewers.get(task.id))
        assert job.image is not None
        traces.add_phases(wait=job.queue_s, generate=job.compute_s)
        spent_j = self._charge(self.observer.own_j(decision.steps))
        return TaskResult(task.id, png(job.image), queue_s=job.queue_s, compute_s=job.compute_s, energy_ue_j=spent_j)

    async def _offload(self, decision: Decision, task: Task, context: TaskContext, left_s: float) -> TaskResult:
        station, power = self.stations[decision.slot - 1], self.observer.device
        deadline_s = left_s if left_s < np.inf else None
        offload = Offload(
            task,
            decision.steps,
            decision.service_class,
            context.bits_in,
            context.bits_out,
            deadline_s,
            is_valid=not self._own_refusal(task),
            expected_s=decision.expected_s,
        )
        self.journal.write(task.id, "sent", place=decision.place)
        reply = await station.generate(offload, self._timeout_s(decision, left_s))
        served_s = reply.server_s - reply.queue_s
        traces.add_phases(upload=reply.up_s, wait=reply.queue_s, generate=served_s, download=reply.down_s)
        spent_j = self._charge(
            float(
                power["transmit_w"] * reply.up_s
                + power["standby_w"] * reply.server_s
                + power["receive_w"] * reply.down_s
            )
        )
        return TaskResult(
            task.id,
            reply.image,
            queue_s=reply.queue_s,
            compute_s=reply.compute_s,
            energy_ue_j=spent_j,
            energy_bs_j=reply.energy_j,
            travel_s=reply.travel_s,
            server_s=reply.server_s,
            sent_bytes=reply.sent_bytes,
            received_bytes=reply.received_bytes,
        )

    def _timeout_s(self, decision: Decision, left_s: float) -> float:
        """How long a BS may take: by the expected time, but leaving the own device enough time before the deadline."""
        grid = self.observer.step_grid
        own_s = self.device.queue().busy_s + self.device.seconds(grid[len(grid) // 2])
        return min(TIMEOUT_FACTOR * decision.expected_s + TIMEOUT_MARGIN_S, max(left_s - own_s, 0.5 * left_s))

    def _charge(self, joules: float) -> float:
        self.observer.charge(joules)
        return joules

    # -- the decision

    def decide(self, context: TaskContext, failed: Collection[int] = ()) -> Decision | None:
        """The policy's choice among the slots that have not ``failed``; None where none of them can be used.

        Unavailable BSs are excluded, unless nothing else is left.
        """
        unavailable = {slot for slot, station in enumerate(self.stations, 1) if station.unavailable}
        for excluded in ({*failed, *unavailable}, set(failed)):
            observation = self.observe(context, excluded)
            present = self.observer.present
            if present:
                return self._choose(observation, present)
        return None

    def observe(self, context: TaskContext, excluded: Collection[int]) -> np.ndarray:
        """The local observation now, see ``Observer.observe``."""
        now = self.clock()
        views = [station.view_at(now) for station in self.stations]
        return self.observer.observe(context, self.device.queue(), views, now, excluded)

    def _choose(self, observation: np.ndarray, present: list[int]) -> Decision:
        """The policy's choice; the cheapest choice where the policy chose an absent place."""
        space, cost = self.observer.layout.action_space, self.observer.cost
        choice = int(self.policy.choose(observation[None], np.array([self.draw()]))[0])
        if space.decode(choice)[0] not in present:
            choice = min(
                (slot * space.per_slot + int(cost[slot].argmin()) for slot in present),
                key=lambda each: cost.flat[each],
            )
        slot, step_index, service_class = space.decode(choice)
        steps = self.observer.step_grid[step_index]
        row = self.observer.candidates[slot]
        expected_s = row[obs.UP_S] + row[obs.WAIT_S + service_class] + row[obs.FIXED_S] + steps * row[obs.STEP_S]
        expected_s += row[obs.DOWN_S]
        reason = self._reason(present, float(cost[slot, step_index, service_class]), float(expected_s))
        return Decision(slot, self.places[slot], steps, service_class, float(expected_s), reason)

    def _reason(self, present: list[int], cost: float, expected_s: float) -> dict[str, Any]:
        """The journal's record of a decision: its expected cost, the best cost at each place, loads and battery."""
        now = self.clock()
        best = {self.places[slot]: round(float(self.observer.cost[slot].min()), 6) for slot in present}
        loads = {}
        for station in self.stations:
            load = station.view_at(now).load
            loads[station.name] = {
                "running": load.running,
                "steps_left": load.steps_left,
                "waiting": list(load.waiting),
                "age_s": round(now - load.time, 3),
                "away": station.unavailable,
            }
        return {
            "expected_cost": round(cost, 6),
            "expected_s": round(expected_s, 4),
            "best": best,
            "loads": loads,
            "battery": round(self.observer.level, 4),
        }


def own_request(task: Task, steps: int, service_class: int = 0) -> Request:
    """A task as the own device's engine takes it."""
    return Request(Prompt(task.prompt, task.negative, task.guidance), steps, task.seed, service_class)
