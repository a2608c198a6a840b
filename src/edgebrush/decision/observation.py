"""The local observation: all that a decision maker ever sees, and its own arithmetic on it.

One piece of code, called by the simulator (compiled by numba) and by the UE agent (plain NumPy); so each
function is self-contained loops over arrays. The observation is one float32 vector of plain SI values:

``[ task (T) | candidates (S × F) | expected cost (S × K × P) ]``

Candidates are the own device (slot 0) and the UE's neighbour BSs. The *expected cost* of every (slot, steps,
class) is the selfish estimate that the UE can make from what it knows: its own queue, the measured rates and
the last broadcasts, nothing of another UE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .action_space import ActionSpace

# -- the task, as its UE knows it (cost per second, cost per joule, cost; bits; 1/s; 0..1)
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

# -- a neighbour BS: the measured link, what is known of its server, and its last broadcast
BS_NUMBER, BS_UP_BPS, BS_DOWN_BPS, BS_IN_FLIGHT, BS_AGE_S = range(5)
BS_ROUND_INTERCEPT_S, BS_ROUND_SLOPE_S, BS_FIXED_S, BS_BATCH_LIMIT, BS_QUEUE_LIMIT, BS_CONNECTION_LIMIT = range(5, 11)
BS_ROUND_INTERCEPT_J, BS_ROUND_SLOPE_J, BS_FIXED_J, BS_CEILING, BS_HALF_STEPS, BS_SHARPNESS = range(11, 17)
BS_RUNNING, BS_STEPS_LEFT, BS_CONNECTIONS, BS_WAITING = range(17, 21)
BS_COLUMNS = BS_WAITING  # plus P waiting counts and P counts of their steps, by class

# -- what the observation says of a candidate
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
class ObservationLayout:
    """Where things lie in the observation vector of a given action space."""

    action_space: ActionSpace

    @property
    def candidate_features(self) -> int:
        return CANDIDATE_FEATURES + self.action_space.classes

    @property
    def task(self) -> slice:
        return slice(0, TASK_FEATURES)

    @property
    def candidates(self) -> slice:
        return slice(TASK_FEATURES, TASK_FEATURES + self.action_space.slots * self.candidate_features)

    @property
    def cost(self) -> slice:
        return slice(self.candidates.stop, self.candidates.stop + self.action_space.count)

    @property
    def size(self) -> int:
        return self.cost.stop

    def split(self, observation):
        """Task ``(..., T)``, candidates ``(..., S, F)``, expected cost ``(..., S, K, P)`` of observations."""
        lead = observation.shape[:-1]
        return (
            observation[..., self.task],
            observation[..., self.candidates].reshape(*lead, self.action_space.slots, self.candidate_features),
            observation[..., self.cost].reshape(*lead, *self.action_space.shape),
        )


def describe_candidates(task, own, stations, known_bs, classes, bs_energy_weight, candidates):
    """Fill ``candidates (S, F)`` from the task ``(T,)``, the own device and ``stations (S-1, ...)``.

    Only the first ``known_bs`` rows of ``stations`` are real. Joules are those that count in the cost: the
    UE's own, plus ``bs_energy_weight`` times the BS's expected share.
    """
    candidates[:] = 0.0
    any_present = own[OWN_ALLOWED]
    device = candidates[0]
    device[PRESENT] = own[OWN_ALLOWED]
    device[FIXED_S] = own[OWN_FIXED_S]
    device[STEP_S] = own[OWN_STEP_S]
    device[SERVER_STEP_S] = own[OWN_STEP_S]
    device[FIXED_J] = own[OWN_FIXED_J]
    device[STEP_J] = own[OWN_STEP_J]
    device[CEILING] = own[OWN_CEILING]
    device[HALF_STEPS] = own[OWN_HALF_STEPS] * task[DIFFICULTY]
    device[SHARPNESS] = own[OWN_SHARPNESS]
    busy = 1.0 if own[OWN_BUSY_S] > 0.0 else 0.0
    device[LOAD] = own[OWN_WAITING] + busy
    device[QUEUED] = own[OWN_WAITING]
    ahead_s = own[OWN_BUSY_S]
    for p in range(classes):
        ahead_s += own[OWN_WORK_S + p]
        device[WAIT_S + p] = ahead_s
    for s in range(known_bs):
        bs = stations[s]
        row = candidates[s + 1]
        limit = bs[BS_BATCH_LIMIT]
        queued = 0.0
        for p in range(classes):
            queued += bs[BS_WAITING + p]
        batch = min(limit, bs[BS_RUNNING] + queued + 1.0)
        round_s = bs[BS_ROUND_INTERCEPT_S] + bs[BS_ROUND_SLOPE_S] * batch
        full = queued >= bs[BS_QUEUE_LIMIT] and bs[BS_RUNNING] >= limit
        row[PRESENT] = 0.0 if full or bs[BS_CONNECTIONS] >= bs[BS_CONNECTION_LIMIT] else 1.0
        any_present = max(any_present, row[PRESENT])
        row[NUMBER] = bs[BS_NUMBER]
        row[UP_S] = task[BITS_IN] / bs[BS_UP_BPS]
        row[DOWN_S] = task[BITS_OUT] / bs[BS_DOWN_BPS]
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
                # The first of B running tasks leaves after about 2/(B+1) of their mean steps left; each place
                # then works off its share of the steps ahead. Exact for B = 1.
                rounds = (2.0 / (limit + 1.0) * bs[BS_STEPS_LEFT] + ahead_steps) / limit
                row[WAIT_S + p] = rounds * round_s + ahead_tasks * bs[BS_FIXED_S]
        wait_s = row[WAIT_S + classes - 1]
        share_j = bs[BS_ROUND_INTERCEPT_J] / batch + bs[BS_ROUND_SLOPE_J]
        radio_j = own[OWN_TRANSMIT_W] * row[UP_S] + own[OWN_RECEIVE_W] * row[DOWN_S]
        standby_j = own[OWN_STANDBY_W] * (wait_s + bs[BS_FIXED_S])
        row[FIXED_J] = radio_j + standby_j + bs_energy_weight * bs[BS_FIXED_J]
        row[STEP_J] = own[OWN_STANDBY_W] * round_s + bs_energy_weight * share_j
    if any_present == 0.0:  # everything looks full: the BSs may be asked all the same, and may refuse
        for s in range(known_bs):
            candidates[s + 1, PRESENT] = 1.0
        if known_bs == 0:
            device[PRESENT] = 1.0


def expected_cost(task, candidates, step_grid, log_step_grid, classes, missed_cost, cost):
    """Fill ``cost (S, K, P)``: the selfish expected cost of each choice, 0 for candidates not present.

    ``(half/k)^s`` is worked out as ``exp(s·(log half − log k))``: one logarithm per candidate and no power.
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
            still = task[ENERGY_WEIGHT] * joules + task[QUALITY_WEIGHT] * (1.0 - quality)
            service_s = row[UP_S] + row[FIXED_S] + steps * row[STEP_S] + row[DOWN_S]
            for p in range(classes):
                delay_s = service_s + row[WAIT_S + p]
                cost[s, k, p] = still + task[DELAY_WEIGHT] * delay_s
                if delay_s * task[DEADLINE_RATE] > 1.0:
                    cost[s, k, p] += missed_cost
