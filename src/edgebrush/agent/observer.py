"""What a UE knows when it decides, as the very observation that its policy was trained on.

The simulator fills the same columns from its world (sim/world.py); here they come from a real queue, measured rates and
received broadcasts. A test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from edgebrush.decision import observation as obs
from edgebrush.decision.observation import ObservationLayout
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.parameters import build_params
from edgebrush.scenario.schema import Scenario

SERVER = slice(obs.BS_ROUND_INTERCEPT_S, obs.BS_SHARPNESS + 1)  # what of a BS never changes, as these columns
SERVER_COLUMNS = (
    "alpha_s",
    "beta_s",
    "fixed_s",
    "batch_limit",
    "queue_limit",
    "connection_limit",
    "alpha_j",
    "beta_j",
    "fixed_j",
    "ceiling",
    "half_steps",
    "sharpness",
)


@dataclass(frozen=True)
class Wish:
    """What a task is to its UE: weights per second, per joule and of quality, difficulty, bits, and its deadline."""

    delay_weight: float
    energy_weight: float
    quality_weight: float
    difficulty: float
    bits_in: float
    bits_out: float
    deadline_at: float = inf  # on the clock that ``observe`` is told


@dataclass(frozen=True)
class OwnQueue:
    """The UE's device: seconds left of the task in service (0: none), tasks waiting, their seconds by class."""

    busy_s: float
    waiting: int
    work_s: Sequence[float]


@dataclass(frozen=True)
class Board:
    """A BS's load as it was last told, and when that was; waiting tasks and their steps by class."""

    time: float
    running: float
    steps_left: float
    connections: float
    waiting: Sequence[float]
    waiting_steps: Sequence[float]

    @staticmethod
    def empty(time: float, classes: int) -> Board:
        """What one must think of a BS that has told nothing yet."""
        return Board(time, 0, 0, 0, (0,) * classes, (0,) * classes)


@dataclass
class Known:
    """What a UE knows of one BS: measured rates, its own tasks there, the last broadcast."""

    number: int  # of the BS in the scenario, from 0
    board: Board
    up_bps: float
    down_bps: float
    in_flight: int = 0


@dataclass
class Observer:
    """Puts the observation of one UE together; holds the arrays for it, so one decision allocates little."""

    scenario: Scenario
    ue: int  # its number in the scenario, from 0
    battery_level: float  # at the start, 0 to 1
    layout: ObservationLayout = field(init=False)

    def __post_init__(self) -> None:
        params = build_params(self.scenario)
        self.common, self.device, self.bss = params.common[0], params.ue[self.ue], params.bs
        self.requests = {kind.name: row for kind, row in zip(self.scenario.requests, params.request, strict=True)}
        self.contents = {each.name: each.difficulty for each in self.scenario.contents}
        self.battery_j = self.battery_level * float(self.device["battery_j"])
        self.layout = ObservationLayout(action_space(self.scenario))
        space = self.layout.action_space
        self.step_grid, self.log_step_grid = params.step_grid.tolist(), params.log_step_grid.tolist()
        self.grid, self.log_grid = params.step_grid, params.log_step_grid
        self.task = np.zeros(obs.TASK_FEATURES)
        self.own = np.zeros(obs.OWN_COLUMNS + space.classes)
        self.stations = np.zeros((space.slots - 1, obs.BS_COLUMNS + 2 * space.classes))
        self.candidates = np.zeros((space.slots, self.layout.candidate_features))
        self.cost = np.zeros(space.shape)
        self._describe_device()
        fixed_s = self.bss["encode_s"] + self.bss["decode_s"]
        columns = [fixed_s if name == "fixed_s" else self.bss[name] for name in SERVER_COLUMNS]
        self.servers = np.array(columns, float).T  # (M, columns): what of a BS never changes

    @property
    def level(self) -> float:
        """The battery's level, 0 to 1."""
        return self.battery_j / float(self.device["battery_j"])

    def charge(self, joules: float) -> None:
        """Take joules out of the battery."""
        self.battery_j = max(0.0, self.battery_j - joules)

    def wish(self, request: str, prompt: str, arrival: float, deadline_s: float | None = None) -> Wish:
        """What a task of a kind of request is; ``deadline_s`` stands in for the kind's own.

        A prompt that is a content class's name is as hard as that class, any other as the classes are on average.
        """
        kind = self.requests[request]
        average = sum(each.share * each.difficulty for each in self.scenario.contents)
        care = 1.0 + float(self.device["battery_care"]) * (1.0 - self.level)
        limit = float(kind["deadline_s"]) if deadline_s is None else deadline_s
        return Wish(
            float(kind["delay_weight"]),
            float(kind["energy_weight"]) * care,
            float(kind["quality_weight"]),
            self.contents.get(prompt, average),
            float(kind["bits_in"]),
            float(kind["bits_out"]),
            arrival + limit,
        )

    @property
    def own_parts_s(self) -> tuple[float, float]:
        """Seconds that the own device needs for an image beside its steps, and for a step."""
        return float(self.device["fixed_s"]), float(self.device["step_s"])

    def own_j(self, steps: int) -> float:
        """Joules that the own device needs for an image."""
        return float(self.device["fixed_j"] + steps * self.device["step_j"])

    def observe(
        self, wish: Wish, queue: OwnQueue, known: Sequence[Known], now: float, masked: Collection[int] = ()
    ) -> np.ndarray:
        """The observation ``(layout.size,)`` float32; ``masked`` slots are shown as not present.

        ``known`` are the BSs of slots 1, 2, ..., in the scenario's order. Where nothing is present at all, every cost
        is 0: look at ``present`` before asking a policy.
        """
        self._describe_task(wish, now)
        self._describe_queue(queue)
        for row, each in zip(self.stations, known, strict=False):
            self._describe_station(row, each, now)
        classes, weight = self.layout.action_space.classes, float(self.common["bs_energy_weight"])
        obs.describe_candidates(self.task, self.own, self.stations, len(known), classes, weight, self.candidates)
        for slot in masked:
            self.candidates[slot, obs.PRESENT] = 0.0
        missed = float(self.common["missed"])
        obs.expected_cost(self.task, self.candidates, self.grid, self.log_grid, classes, missed, self.cost)
        return np.concatenate([self.task, self.candidates.ravel(), self.cost.ravel()]).astype(np.float32)

    @property
    def present(self) -> list[int]:
        """The slots that the last observation showed as present."""
        return np.flatnonzero(self.candidates[:, obs.PRESENT]).tolist()

    def _describe_task(self, wish: Wish, now: float) -> None:
        row = self.task
        row[obs.DELAY_WEIGHT], row[obs.ENERGY_WEIGHT] = wish.delay_weight, wish.energy_weight
        row[obs.QUALITY_WEIGHT], row[obs.DIFFICULTY] = wish.quality_weight, wish.difficulty
        row[obs.BITS_IN], row[obs.BITS_OUT] = wish.bits_in, wish.bits_out
        row[obs.DEADLINE_RATE] = 1.0 / max(wish.deadline_at - now, 1e-3)
        row[obs.BATTERY] = self.level

    def _describe_device(self) -> None:
        """What of the own device never changes."""
        row, fixed = self.own, self.device
        row[obs.OWN_FIXED_S], row[obs.OWN_STEP_S] = fixed["fixed_s"], fixed["step_s"]
        row[obs.OWN_FIXED_J], row[obs.OWN_STEP_J] = fixed["fixed_j"], fixed["step_j"]
        row[obs.OWN_CEILING], row[obs.OWN_HALF_STEPS] = fixed["ceiling"], fixed["half_steps"]
        row[obs.OWN_SHARPNESS] = fixed["sharpness"]
        row[obs.OWN_TRANSMIT_W], row[obs.OWN_RECEIVE_W] = fixed["transmit_w"], fixed["receive_w"]
        row[obs.OWN_STANDBY_W] = fixed["standby_w"]

    def _describe_queue(self, queue: OwnQueue) -> None:
        row = self.own
        room = queue.busy_s == 0.0 or queue.waiting < self.device["queue_limit"]
        row[obs.OWN_ALLOWED] = 1.0 if self.common["local"] == 1 and room else 0.0
        row[obs.OWN_BUSY_S], row[obs.OWN_WAITING] = queue.busy_s, queue.waiting
        row[obs.OWN_WORK_S :] = queue.work_s

    def _describe_station(self, row: np.ndarray, known: Known, now: float) -> None:
        board, classes = known.board, self.layout.action_space.classes
        row[obs.BS_NUMBER] = known.number + 1
        row[obs.BS_UP_BPS] = known.up_bps
        row[obs.BS_DOWN_BPS] = known.down_bps if self.common["downlink"] == 1 else inf
        row[obs.BS_IN_FLIGHT] = known.in_flight
        row[obs.BS_AGE_S] = now - board.time
        row[SERVER] = self.servers[known.number]
        row[obs.BS_RUNNING], row[obs.BS_STEPS_LEFT] = board.running, board.steps_left
        row[obs.BS_CONNECTIONS] = board.connections
        row[obs.BS_WAITING : obs.BS_WAITING + classes] = board.waiting
        row[obs.BS_WAITING + classes :] = board.waiting_steps
