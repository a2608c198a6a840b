"""The local observation of a UE: its layout, and the code that fills it.

The simulator compiles these functions with numba; a UE agent calls them on NumPy arrays. So both see the same numbers,
and each function is plain loops and assignments over arrays and records. The observation is one float32 vector of SI
values:

``[ task (T) | candidates (S x F) | expected cost (S x K x P) ]``

Candidates are the own device (slot 0) and the UE's neighbour BSs (slots 1 to S-1). The *expected cost* of an action is
the UE's selfish estimate from its own queue, the measured rates and the last load reports. It uses nothing that
belongs to another UE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .action_space import ActionSpace

Floats = NDArray[np.float64]
Record = Any  # a NumPy record, or a numba record in compiled code: fields as attributes

# -- the task (cost per second, cost per joule, cost; bits; 1/s; 0..1)
DELAY_WEIGHT, ENERGY_WEIGHT, QUALITY_WEIGHT, DIFFICULTY, BITS_IN, BITS_OUT, DEADLINE_RATE, BATTERY = range(8)
TASK_FEATURES = 8

# -- the own device
(
    OWN_FIXED_S,
    OWN_STEP_S,
    OWN_FIXED_J,
    OWN_STEP_J,
    OWN_CEILING,
    OWN_HALF_STEPS,
    OWN_SHARPNESS,
    OWN_ALLOWED,
) = range(8)
OWN_BUSY_S, OWN_WAITING, OWN_TRANSMIT_W, OWN_RECEIVE_W, OWN_STANDBY_W, OWN_WORK_S = range(8, 14)
OWN_COLUMNS = OWN_WORK_S  # plus P columns from OWN_WORK_S: seconds of waiting work by class

# -- a neighbour BS: the measured link, the server's constants, and its last load report
BS_NUMBER, BS_UP_BPS, BS_DOWN_BPS, BS_IN_FLIGHT, BS_AGE_S = range(5)
BS_ROUND_INTERCEPT_S, BS_ROUND_SLOPE_S, BS_FIXED_S, BS_BATCH_LIMIT, BS_QUEUE_LIMIT, BS_CONNECTION_LIMIT = range(5, 11)
BS_ROUND_INTERCEPT_J, BS_ROUND_SLOPE_J, BS_FIXED_J, BS_CEILING, BS_HALF_STEPS, BS_SHARPNESS = range(11, 17)
BS_LATENCY_S, BS_RUNNING, BS_STEPS_LEFT, BS_CONNECTIONS, BS_WAITING = range(17, 22)
BS_COLUMNS = BS_WAITING  # plus P counts of waiting tasks and P counts of their steps, by class

# -- the features of a candidate in the observation
(
    PRESENT,
    NUMBER,
    UP_S,
    DOWN_S,
    FIXED_S,
    STEP_S,
    SERVER_STEP_S,
    FIXED_J,
    STEP_J,
    CEILING,
    HALF_STEPS,
    SHARPNESS,
) = range(12)
LOAD, QUEUED, IN_FLIGHT, AGE_S, WAIT_S = range(12, 17)
CANDIDATE_FEATURES = WAIT_S  # plus P columns from WAIT_S: expected seconds of waiting by class


@dataclass(frozen=True)
class TaskContext:
    """What a UE knows about its task. The simulator's task records have fields of these names."""

    delay_weight: float  # cost per second
    energy_weight: float  # cost per joule
    quality_weight: float  # cost of a quality of 0
    difficulty: float  # stretches the quality curve's steps
    bits_in: float
    bits_out: float
    deadline_at: float = math.inf  # on the clock of ``now`` in ``fill_task``


@dataclass(frozen=True)
class LoadReport:
    """A BS's load when it last reported it. The simulator's load reports have fields of these names."""

    time: float  # of the report
    running: float  # tasks in the batch
    steps_left: float  # denoising steps that they have left
    connections: float
    waiting: Sequence[float]  # (P,) waiting tasks by class
    waiting_steps: Sequence[float]  # (P,) their denoising steps

    @staticmethod
    def empty(time: float, classes: int) -> LoadReport:
        """The load to assume for a BS that has not reported yet."""
        return LoadReport(time, 0, 0, 0, (0,) * classes, (0,) * classes)


@dataclass(frozen=True)
class ObservationLayout:
    """Where things lie in the observation vector of a given action space."""

    action_space: ActionSpace

    @property
    def candidate_features(self) -> int:
        """F, the number of features of a candidate."""
        return CANDIDATE_FEATURES + self.action_space.classes

    @property
    def _cost_start(self) -> int:
        return TASK_FEATURES + self.action_space.slots * self.candidate_features

    @property
    def task(self) -> slice:
        return slice(0, TASK_FEATURES)

    @property
    def candidates(self) -> slice:
        return slice(TASK_FEATURES, self._cost_start)

    @property
    def cost(self) -> slice:
        return slice(self._cost_start, self.size)

    @property
    def size(self) -> int:
        """Length of the observation vector."""
        return self._cost_start + self.action_space.count

    def split(self, observation: Any) -> tuple[Any, Any, Any]:
        """Task ``(..., T)``, candidates ``(..., S, F)``, expected cost ``(..., S, K, P)`` of observations.

        ``observation (..., size)`` is a NumPy or a JAX array.
        """
        lead = observation.shape[:-1]
        return (
            observation[..., self.task],
            observation[..., self.candidates].reshape(*lead, self.action_space.slots, self.candidate_features),
            observation[..., self.cost].reshape(*lead, *self.action_space.shape),
        )


def fill_task(row: Floats, task: TaskContext, battery_level: float, now: float) -> None:
    """Fill the task's features, ``row (T,)``; ``battery_level`` is the UE's, 0 to 1."""
    row[DELAY_WEIGHT] = task.delay_weight
    row[ENERGY_WEIGHT] = task.energy_weight
    row[QUALITY_WEIGHT] = task.quality_weight
    row[DIFFICULTY] = task.difficulty
    row[BITS_IN] = task.bits_in
    row[BITS_OUT] = task.bits_out
    row[DEADLINE_RATE] = 1.0 / max(task.deadline_at - now, 1e-3)
    row[BATTERY] = battery_level


def fill_device(row: Floats, device: Record) -> None:
    """Fill the constants of the own device from its ``UE_PARAMS`` record, in ``row (OWN_COLUMNS + P,)``."""
    row[OWN_FIXED_S], row[OWN_STEP_S] = device.fixed_s, device.step_s
    row[OWN_FIXED_J], row[OWN_STEP_J] = device.fixed_j, device.step_j
    row[OWN_CEILING], row[OWN_HALF_STEPS], row[OWN_SHARPNESS] = device.ceiling, device.half_steps, device.sharpness
    row[OWN_TRANSMIT_W], row[OWN_RECEIVE_W] = device.transmit_w, device.receive_w
    row[OWN_STANDBY_W] = device.standby_w


def fill_queue(row: Floats, allowed: bool, busy_s: float, waiting: int, work_s: Sequence[float], classes: int) -> None:
    """Fill the state of the own device: whether it may be chosen, seconds left of its task, its queue.

    ``work_s (P,)`` are the seconds of waiting work by class.
    """
    row[OWN_ALLOWED] = 1.0 if allowed else 0.0
    row[OWN_BUSY_S], row[OWN_WAITING] = busy_s, waiting
    for p in range(classes):
        row[OWN_WORK_S + p] = work_s[p]


def fill_server(row: Floats, number: int, server: Record) -> None:
    """Fill the constants of BS ``number`` (from 0) from its ``BS_PARAMS`` record, in ``row (BS_COLUMNS + 2 P,)``."""
    row[BS_NUMBER] = number + 1
    row[BS_ROUND_INTERCEPT_S], row[BS_ROUND_SLOPE_S] = server.round_intercept_s, server.round_slope_s
    row[BS_FIXED_S] = server.encode_s + server.decode_s
    row[BS_BATCH_LIMIT], row[BS_QUEUE_LIMIT] = server.batch_limit, server.queue_limit
    row[BS_CONNECTION_LIMIT] = server.connection_limit
    row[BS_ROUND_INTERCEPT_J], row[BS_ROUND_SLOPE_J] = server.round_intercept_j, server.round_slope_j
    row[BS_FIXED_J] = server.fixed_j
    row[BS_CEILING], row[BS_HALF_STEPS], row[BS_SHARPNESS] = server.ceiling, server.half_steps, server.sharpness


def fill_link(row: Floats, up_bps: float, down_bps: float, latency_s: float, in_flight: int) -> None:
    """Fill the link to a BS: measured rates (an infinite one takes no time), and how many own tasks are there.

    ``latency_s`` delays a transfer in each direction, beyond what the rates include.
    """
    row[BS_UP_BPS], row[BS_DOWN_BPS], row[BS_LATENCY_S], row[BS_IN_FLIGHT] = up_bps, down_bps, latency_s, in_flight


def fill_load(row: Floats, report: LoadReport, now: float, classes: int) -> None:
    """Fill a BS's last load report, and its age at ``now``."""
    row[BS_AGE_S] = now - report.time
    row[BS_RUNNING], row[BS_STEPS_LEFT] = report.running, report.steps_left
    row[BS_CONNECTIONS] = report.connections
    for p in range(classes):
        row[BS_WAITING + p] = report.waiting[p]
        row[BS_WAITING + classes + p] = report.waiting_steps[p]


def fill_candidates(
    task: Floats,
    own: Floats,
    stations: Floats,
    known_bs: int,
    classes: int,
    bs_energy_weight: float,
    candidates: Floats,
) -> None:
    """Fill ``candidates (S, F)`` from the task ``(T,)``, the own device and ``stations (S-1, ...)``.

    Only the first ``known_bs`` rows of ``stations`` are in use. Where everything looks full, all BSs are shown as
    present: they may still accept a task, or refuse it.
    """
    candidates[:] = 0.0
    fill_own_candidate(task, own, classes, candidates[0])
    any_present = own[OWN_ALLOWED]
    for s in range(known_bs):
        fill_bs_candidate(task, own, stations[s], classes, bs_energy_weight, candidates[s + 1])
        any_present = max(any_present, candidates[s + 1, PRESENT])
    if any_present == 0.0:
        for s in range(known_bs):
            candidates[s + 1, PRESENT] = 1.0
        if known_bs == 0:
            candidates[0, PRESENT] = 1.0


def fill_own_candidate(task: Floats, own: Floats, classes: int, row: Floats) -> None:
    """Fill the own device's features ``row (F,)``."""
    row[PRESENT] = own[OWN_ALLOWED]
    row[FIXED_S] = own[OWN_FIXED_S]
    row[STEP_S] = own[OWN_STEP_S]
    row[SERVER_STEP_S] = own[OWN_STEP_S]
    row[FIXED_J] = own[OWN_FIXED_J]
    row[STEP_J] = own[OWN_STEP_J]
    row[CEILING] = own[OWN_CEILING]
    row[HALF_STEPS] = own[OWN_HALF_STEPS] * task[DIFFICULTY]
    row[SHARPNESS] = own[OWN_SHARPNESS]
    busy = 1.0 if own[OWN_BUSY_S] > 0.0 else 0.0
    row[LOAD] = own[OWN_WAITING] + busy
    row[QUEUED] = own[OWN_WAITING]
    ahead_s = own[OWN_BUSY_S]
    for p in range(classes):
        ahead_s += own[OWN_WORK_S + p]
        row[WAIT_S + p] = ahead_s


def fill_bs_candidate(
    task: Floats, own: Floats, bs: Floats, classes: int, bs_energy_weight: float, row: Floats
) -> None:
    """Fill a BS's features ``row (F,)`` from its columns ``bs``.

    Joules are those that count in the cost: the UE's own, plus ``bs_energy_weight`` times the BS's expected share.
    """
    limit = bs[BS_BATCH_LIMIT]
    queued = 0.0
    for p in range(classes):
        queued += bs[BS_WAITING + p]
    batch = min(limit, bs[BS_RUNNING] + queued + 1.0)
    round_s = bs[BS_ROUND_INTERCEPT_S] + bs[BS_ROUND_SLOPE_S] * batch
    full = queued >= bs[BS_QUEUE_LIMIT] and bs[BS_RUNNING] >= limit
    row[PRESENT] = 0.0 if full or bs[BS_CONNECTIONS] >= bs[BS_CONNECTION_LIMIT] else 1.0
    row[NUMBER] = bs[BS_NUMBER]
    row[UP_S] = bs[BS_LATENCY_S] + task[BITS_IN] / bs[BS_UP_BPS]
    row[DOWN_S] = bs[BS_LATENCY_S] + task[BITS_OUT] / bs[BS_DOWN_BPS]
    row[FIXED_S] = bs[BS_FIXED_S]
    row[STEP_S] = round_s
    row[SERVER_STEP_S] = round_s / batch
    row[CEILING] = bs[BS_CEILING]
    row[HALF_STEPS] = bs[BS_HALF_STEPS] * task[DIFFICULTY]
    row[SHARPNESS] = bs[BS_SHARPNESS]
    row[LOAD] = (bs[BS_RUNNING] + queued) / limit
    row[QUEUED] = queued
    row[IN_FLIGHT] = bs[BS_IN_FLIGHT]
    row[AGE_S] = bs[BS_AGE_S]
    ahead_tasks = 0.0
    ahead_steps = 0.0
    for p in range(classes):
        ahead_tasks += bs[BS_WAITING + p]
        ahead_steps += bs[BS_WAITING + classes + p]
        if bs[BS_RUNNING] + queued < limit:
            # A free place: the task enters when the round in progress ends.
            row[WAIT_S + p] = 0.5 * round_s if bs[BS_RUNNING] > 0.0 else 0.0
        else:
            # The first of B running tasks leaves after about 2/(B+1) of their mean steps left. Each place then
            # works off its share of the steps ahead. Exact for B = 1.
            rounds = (2.0 / (limit + 1.0) * bs[BS_STEPS_LEFT] + ahead_steps) / limit
            row[WAIT_S + p] = rounds * round_s + ahead_tasks * bs[BS_FIXED_S]
    wait_s = row[WAIT_S + classes - 1]
    share_j = bs[BS_ROUND_INTERCEPT_J] / batch + bs[BS_ROUND_SLOPE_J]
    radio_j = own[OWN_TRANSMIT_W] * row[UP_S] + own[OWN_RECEIVE_W] * row[DOWN_S]
    standby_j = own[OWN_STANDBY_W] * (wait_s + bs[BS_FIXED_S])
    row[FIXED_J] = radio_j + standby_j + bs_energy_weight * bs[BS_FIXED_J]
    row[STEP_J] = own[OWN_STANDBY_W] * round_s + bs_energy_weight * share_j


def fill_expected_cost(
    task: Floats,
    candidates: Floats,
    step_grid: NDArray[np.int64],
    log_step_grid: Floats,
    classes: int,
    missed_cost: float,
    cost: Floats,
) -> None:
    """Fill ``cost (S, K, P)``: the selfish expected cost of each action, 0 for candidates that are not present.

    ``(half/k)^s`` is computed as ``exp(s (log half - log k))``: one logarithm per candidate and no power.
    """
    for s in range(candidates.shape[0]):
        row = candidates[s]
        if row[PRESENT] == 0.0:
            cost[s, :, :] = 0.0
            continue
        log_half_steps = math.log(row[HALF_STEPS])
        for k in range(step_grid.shape[0]):
            steps = step_grid[k]
            quality = row[CEILING] / (1.0 + math.exp(row[SHARPNESS] * (log_half_steps - log_step_grid[k])))
            joules = row[FIXED_J] + steps * row[STEP_J]
            without_delay = task[ENERGY_WEIGHT] * joules + task[QUALITY_WEIGHT] * (1.0 - quality)
            service_s = row[UP_S] + row[FIXED_S] + steps * row[STEP_S] + row[DOWN_S]
            for p in range(classes):
                delay_s = service_s + row[WAIT_S + p]
                cost[s, k, p] = without_delay + task[DELAY_WEIGHT] * delay_s
                if delay_s * task[DEADLINE_RATE] > 1.0:
                    cost[s, k, p] += missed_cost
