"""Rules: what one can do without learning, each with a few numbers that are tuned.

``choose`` is plain loops over arrays: the evaluation compiles it with numba, a UE calls it as it is. All rules see
the same local observation. Where a rule fixes the steps, their number is tuned; where it does not choose the class
itself, tasks whose delay weight reaches a tuned threshold ("urgency") ask for the first class, others for the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgebrush.decision.action_space import ActionSpace, encode_action
from edgebrush.decision.observation import (
    CANDIDATE_FEATURES,
    DELAY_WEIGHT,
    FIXED_S,
    IN_FLIGHT,
    LOAD,
    NUMBER,
    PRESENT,
    SERVER_STEP_S,
    TASK_FEATURES,
    UP_S,
    WAIT_S,
)

(LOCAL_ONLY, NEAREST_BS, SHORTEST_QUEUE, RANDOM, CAPACITY_RANDOM) = range(5)  # these fix the steps
(SELFISH_GREEDY, PRICED_GREEDY, PRICED_GREEDY_3, LYAPUNOV) = range(5, 9)  # these weigh the expected costs


class Number(NamedTuple):
    """One tunable number: where a search starts, how far it looks at first, what it means."""

    name: str
    start: float
    spread: float


STEP = Number("step_index", 2.0, 1.5)  # position in the step grid, rounded and clipped
URGENCY = Number("log_urgency", -1.5, 1.0)  # log of the delay weight (cost per second) from which a task is urgent


def numbers_of(kind: int, bs_count: int) -> list[Number]:
    """The numbers of a rule for so many BSs, in the order in which ``choose`` reads them."""
    if kind in (LOCAL_ONLY, NEAREST_BS, SHORTEST_QUEUE, RANDOM):
        return [STEP, URGENCY]
    if kind == CAPACITY_RANDOM:
        return [STEP, Number("log_own_share", 0.0, 1.5), URGENCY]
    if kind == PRICED_GREEDY:
        return [
            *(Number(f"price_bs_{j + 1}", 0.3, 0.2) for j in range(bs_count)),
            *(Number(f"growth_bs_{j + 1}", 0.05, 0.05) for j in range(bs_count)),
            Number("price_own", 0.0, 0.05),
            Number("growth_own", 0.0, 0.05),
            Number("in_flight", 0.0, 0.5),
            Number("wait_factor", 0.0, 0.5),
            Number("log_temperature", -6.0, 1.0),
            URGENCY,
        ]
    if kind == PRICED_GREEDY_3:
        return [Number("price_bs", 0.3, 0.2), Number("growth_bs", 0.05, 0.05), URGENCY]
    if kind == LYAPUNOV:
        return [Number("log_v", 0.0, 2.0), URGENCY]
    return []


KINDS = {
    "local-only": LOCAL_ONLY,
    "nearest-bs": NEAREST_BS,
    "shortest-queue": SHORTEST_QUEUE,
    "random": RANDOM,
    "capacity-random": CAPACITY_RANDOM,
    "selfish-greedy": SELFISH_GREEDY,
    "priced-greedy-3": PRICED_GREEDY_3,
    "priced-greedy": PRICED_GREEDY,
    "lyapunov": LYAPUNOV,
}


@dataclass(frozen=True)
class Rule:
    """A rule with its numbers, as a policy for scenarios of one action space."""

    name: str  # one of KINDS
    numbers: np.ndarray  # (n,) float64, see numbers_of
    action_space: ActionSpace

    @property
    def kind(self) -> int:
        return KINDS[self.name]

    def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """See ``Policy.choose``."""
        space, rows = self.action_space, zip(observations, draws, strict=True)
        given = self.kind, self.numbers, space.slots, np.array(space.step_grid), space.classes
        return np.array([choose(*given, row, draw) for row, draw in rows], np.int64)


def choose(kind, numbers, slots, step_grid, classes, observation, draw):
    """The action of rule ``kind`` with its ``numbers`` on one observation ``(layout.size,)``."""
    features, grid_size = CANDIDATE_FEATURES + classes, len(step_grid)
    task = observation[:TASK_FEATURES]
    stop = TASK_FEATURES + slots * features
    candidates = observation[TASK_FEATURES:stop].reshape((slots, features))
    cost = observation[stop:].reshape((slots, grid_size, classes))
    service_class = 0
    if kind != SELFISH_GREEDY and task[DELAY_WEIGHT] < math.exp(numbers[-1]):
        service_class = classes - 1
    if kind < SELFISH_GREEDY:
        k = int(min(max(round(numbers[0]), 0), grid_size - 1))
        slot = _place(kind, numbers, step_grid[k], candidates, draw)
    else:
        slot, k = _weigh(kind, numbers, step_grid, task, candidates, cost, service_class, draw)
    return encode_action(slot, k, service_class, grid_size, classes)


def _place(kind, numbers, steps, candidates, draw):
    """The slot that a rule with fixed steps picks: the best present one, or one drawn in proportion."""
    if kind == LOCAL_ONLY:
        return 0
    best, best_score, total = 0, -np.inf, 0.0
    for s in range(len(candidates)):
        score = _score(kind, numbers, steps, candidates, s)
        total += score if score > 0.0 else 0.0
        if score > best_score:
            best, best_score = s, score
    if kind != RANDOM and kind != CAPACITY_RANDOM:
        return best
    left = draw * total
    for s in range(len(candidates)):
        left -= _score(kind, numbers, steps, candidates, s)
        if left < 0.0:
            return s
    return best


def _score(kind, numbers, steps, candidates, s):
    """How much a rule likes a slot; for the random ones, its share (0 where the slot is not present)."""
    row = candidates[s]
    drawn = kind == RANDOM or kind == CAPACITY_RANDOM
    if row[PRESENT] == 0.0:
        return 0.0 if drawn else -np.inf
    if kind == NEAREST_BS:
        return -1e9 if s == 0 else -row[UP_S]
    if kind == SHORTEST_QUEUE:
        return -row[LOAD]
    if kind == CAPACITY_RANDOM:
        per_second = 1.0 / (row[FIXED_S] + steps * row[SERVER_STEP_S])
        return per_second * math.exp(numbers[1]) if s == 0 else per_second
    return 1.0


def _weigh(kind, numbers, step_grid, task, candidates, cost, service_class, draw):
    """(slot, step index) of least value, or, with a temperature, drawn from its softmax (Gibbs' distribution)."""
    slots, grid_size, classes = cost.shape
    value = np.full((slots, grid_size), np.inf)
    best_s, best_k = 0, 0
    for s in range(slots):
        if candidates[s, PRESENT] > 0.0:
            for k in range(grid_size):
                value[s, k] = cost[s, k, service_class] + _price(
                    kind, numbers, classes, task, candidates[s], s, step_grid[k], service_class
                )
                if value[s, k] < value[best_s, best_k]:
                    best_s, best_k = s, k
    if kind != PRICED_GREEDY:
        return best_s, best_k
    weight = np.exp((value[best_s, best_k] - value) / math.exp(numbers[-2]))
    left = draw * weight.sum()
    for s in range(slots):
        for k in range(grid_size):
            left -= weight[s, k]
            if left < 0.0:
                return s, k
    return best_s, best_k


def _price(kind, numbers, classes, task, row, s, steps, service_class):
    """What a rule adds to the selfish expected cost of a choice, for the others' sake."""
    if kind == SELFISH_GREEDY:
        return 0.0
    server_s = row[FIXED_S] + steps * row[SERVER_STEP_S]
    wait = task[DELAY_WEIGHT] * row[WAIT_S + service_class]
    if kind == LYAPUNOV:
        # Drift plus penalty (Neely 2010): the cost without waiting, plus backlog times the work added, over V.
        return row[WAIT_S + classes - 1] * server_s * math.exp(-numbers[0]) - wait
    if kind == PRICED_GREEDY_3:
        return 0.0 if s == 0 else (numbers[0] + numbers[1] * row[LOAD]) * server_s
    bs_count = (numbers.shape[0] - 6) // 2
    rest = 2 * bs_count
    own, growth_own, in_flight, wait_factor = numbers[rest], numbers[rest + 1], numbers[rest + 2], numbers[rest + 3]
    if s == 0:
        return (own + growth_own * row[LOAD]) * server_s + wait_factor * wait
    j = int(row[NUMBER]) - 1
    load = row[LOAD] + in_flight * row[IN_FLIGHT]
    return (numbers[j] + numbers[bs_count + j] * load) * server_s + wait_factor * wait
