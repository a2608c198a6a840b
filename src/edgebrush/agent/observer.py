"""Builds the observation of one UE from its queue, measured rates and received load reports.

The columns are filled by the code that fills them in the simulator, see ``edgebrush.decision.observation``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from edgebrush.decision import observation as obs
from edgebrush.decision.observation import LoadReport, ObservationLayout, TaskContext
from edgebrush.decision.task_cost import energy_weight_at
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.parameters import build_params
from edgebrush.scenario.schema import Scenario


@dataclass(frozen=True)
class OwnQueue:
    """The state of the UE's device."""

    busy_s: float  # seconds left of the task in service, 0 where there is none
    waiting: int  # tasks
    work_s: Sequence[float]  # (P,) seconds of waiting work by class


@dataclass
class StationView:
    """What a UE knows about one BS: measured rates, its own tasks there, the last load report."""

    number: int  # of the BS in the scenario, from 0
    load: LoadReport
    up_bps: float
    down_bps: float
    in_flight: int = 0


@dataclass
class Observer:
    """Builds the observations of one UE. It reuses its arrays, so a decision allocates little."""

    scenario: Scenario
    ue: int  # its number in the scenario, from 0
    battery_level: float  # at the start, 0 to 1
    layout: ObservationLayout = field(init=False)

    def __post_init__(self) -> None:
        params = build_params(self.scenario)
        self.common, self.device, self.bss = params.common[0], params.ue.view(np.recarray)[self.ue], params.bs
        self.requests = {kind.name: row for kind, row in zip(self.scenario.requests, params.request, strict=True)}
        self.contents = {content.name: content.difficulty for content in self.scenario.contents}
        self.battery_j = self.battery_level * float(self.device["battery_j"])
        self.layout = ObservationLayout(action_space(self.scenario))
        self.step_grid = self.layout.action_space.step_grid
        self.grid, self.log_grid = params.step_grid, params.log_step_grid
        self._allocate()
        obs.fill_device(self.own, self.device)
        for number, server in enumerate(params.bs.view(np.recarray)):
            obs.fill_server(self.servers[number], number, server)

    def _allocate(self) -> None:
        space = self.layout.action_space
        station_columns = obs.BS_COLUMNS + 2 * space.classes
        self.task = np.zeros(obs.TASK_FEATURES)
        self.own = np.zeros(obs.OWN_COLUMNS + space.classes)
        self.servers = np.zeros((self.scenario.bs_count, station_columns))  # the constants of every BS
        self.stations = np.zeros((space.slots - 1, station_columns))
        self.candidates = np.zeros((space.slots, self.layout.candidate_features))
        self.cost = np.zeros(space.shape)

    @property
    def level(self) -> float:
        """The battery's level, 0 to 1."""
        return self.battery_j / float(self.device["battery_j"])

    def charge(self, joules: float) -> None:
        """Take joules out of the battery."""
        self.battery_j = max(0.0, self.battery_j - joules)

    def task_context(self, request: str, prompt: str, arrival: float, deadline_s: float | None = None) -> TaskContext:
        """The context of a task of a request kind; ``deadline_s`` overrides the kind's own.

        A prompt that is the name of a content class has that class's difficulty; any other has the mean difficulty.
        """
        kind = self.requests[request]
        mean = sum(content.share * content.difficulty for content in self.scenario.contents)
        limit_s = float(kind["deadline_s"]) if deadline_s is None else deadline_s
        return TaskContext(
            float(kind["delay_weight"]),
            energy_weight_at(float(kind["energy_weight"]), float(self.device["battery_care"]), self.level),
            float(kind["quality_weight"]),
            self.contents.get(prompt, mean),
            float(kind["bits_in"]),
            float(kind["bits_out"]),
            arrival + limit_s,
        )

    @property
    def own_parts_s(self) -> tuple[float, float]:
        """Seconds of an image on the own device: the fixed part, and each step."""
        return float(self.device["fixed_s"]), float(self.device["step_s"])

    def own_j(self, steps: int) -> float:
        """Joules of an image on the own device."""
        return float(self.device["fixed_j"] + steps * self.device["step_j"])

    def observe(
        self,
        context: TaskContext,
        queue: OwnQueue,
        views: Sequence[StationView],
        now: float,
        excluded: Collection[int] = (),
    ) -> np.ndarray:
        """The observation ``(layout.size,)`` float32; ``excluded`` slots are shown as not present.

        ``views`` are the BSs of slots 1, 2, ..., in the scenario's order. Where nothing is present, every cost is 0:
        check ``present`` before you call a policy.
        """
        common, classes = self.common, self.layout.action_space.classes
        obs.fill_task(self.task, context, self.level, now)
        self._fill_queue(queue, classes)
        for row, view in zip(self.stations, views, strict=False):
            row[:] = self.servers[view.number]
            down_bps = view.down_bps if common["downlink"] == 1 else inf
            obs.fill_link(row, view.up_bps, down_bps, 0.0, view.in_flight)  # measured rates include the latency
            obs.fill_load(row, view.load, now, classes)
        weight, missed_cost = float(common["bs_energy_weight"]), float(common["missed"])
        obs.fill_candidates(self.task, self.own, self.stations, len(views), classes, weight, self.candidates)
        for slot in excluded:
            self.candidates[slot, obs.PRESENT] = 0.0
        grids = self.grid, self.log_grid
        obs.fill_expected_cost(self.task, self.candidates, *grids, classes, missed_cost, self.cost)
        return np.concatenate([self.task, self.candidates.ravel(), self.cost.ravel()]).astype(np.float32)

    def _fill_queue(self, queue: OwnQueue, classes: int) -> None:
        has_room = queue.busy_s == 0.0 or queue.waiting < self.device["queue_limit"]
        allowed = bool(self.common["local"] == 1 and has_room)
        obs.fill_queue(self.own, allowed, queue.busy_s, queue.waiting, queue.work_s, classes)

    @property
    def present(self) -> list[int]:
        """The slots that the last observation showed as present."""
        slots: list[int] = np.flatnonzero(self.candidates[:, obs.PRESENT]).tolist()
        return slots
