"""Rules: policies without learning, each with a few tuned parameters.

``choose`` is plain loops over arrays: the evaluation compiles it with numba, a UE agent calls it directly. All rules
see the same local observation. Rules of the first group have a fixed step count, which is tuned. Rules that do not
choose the service class put tasks whose delay weight reaches a tuned threshold ("urgency") into the first class, and
all others into the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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

from .pricing import effective_load, server_price, server_seconds

Values = NDArray[np.floating]

(LOCAL_ONLY, NEAREST_BS, SHORTEST_QUEUE, RANDOM, CAPACITY_RANDOM) = range(5)  # with a fixed step count
(SELFISH_GREEDY, PRICED_GREEDY, PRICED_GREEDY_3, LYAPUNOV) = range(5, 9)  # minimise the expected cost plus a surcharge

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


class RuleParameter(NamedTuple):
    """A tunable parameter: its name, where a search starts, and the initial standard deviation of the search."""

    name: str
    start: float
    spread: float


STEP = RuleParameter("step_index", 2.0, 1.5)  # position in the step grid, rounded and clipped
URGENCY = RuleParameter("log_urgency", -1.5, 1.0)  # log of the delay weight (cost per second) of an urgent task


def tunable_parameters(kind: int, bs_count: int) -> list[RuleParameter]:
    """The parameters of a rule in a scenario with so many BSs, in the order in which ``choose`` reads them."""
    if kind in (LOCAL_ONLY, NEAREST_BS, SHORTEST_QUEUE, RANDOM):
        return [STEP, URGENCY]
    if kind == CAPACITY_RANDOM:
        return [STEP, RuleParameter("log_own_share", 0.0, 1.5), URGENCY]
    if kind == PRICED_GREEDY:
        return [
            *(RuleParameter(f"price_bs_{j + 1}", 0.3, 0.2) for j in range(bs_count)),
            *(RuleParameter(f"growth_bs_{j + 1}", 0.05, 0.05) for j in range(bs_count)),
            RuleParameter("price_own", 0.0, 0.05),
            RuleParameter("growth_own", 0.0, 0.05),
            RuleParameter("in_flight", 0.0, 0.5),
            RuleParameter("wait_factor", 0.0, 0.5),
            RuleParameter("log_temperature", -6.0, 1.0),
            URGENCY,
        ]
    if kind == PRICED_GREEDY_3:
        return [RuleParameter("price_bs", 0.3, 0.2), RuleParameter("growth_bs", 0.05, 0.05), URGENCY]
    if kind == LYAPUNOV:
        return [RuleParameter("log_v", 0.0, 2.0), URGENCY]
    return []


@dataclass(frozen=True)
class Rule:
    """A rule with its parameters, as a policy for scenarios of one action space."""

    name: str  # one of KINDS
    parameters: np.ndarray  # (n,) float64, see tunable_parameters
    action_space: ActionSpace

    @property
    def kind(self) -> int:
        return KINDS[self.name]

    def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """See ``Policy.choose``."""
        space, rows = self.action_space, zip(observations, draws, strict=True)
        given = self.kind, self.parameters, space.slots, np.array(space.step_grid), space.classes
        return np.array([choose(*given, row, draw) for row, draw in rows], np.int64)


def choose(
    kind: int,
    parameters: Values,
    slots: int,
    step_grid: NDArray[np.int64],
    classes: int,
    observation: Values,
    draw: float,
) -> int:
    """The action of rule ``kind`` with its ``parameters`` on one observation ``(layout.size,)``."""
    features, grid_size = CANDIDATE_FEATURES + classes, len(step_grid)
    task = observation[:TASK_FEATURES]
    stop = TASK_FEATURES + slots * features
    candidates = observation[TASK_FEATURES:stop].reshape((slots, features))
    cost = observation[stop:].reshape((slots, grid_size, classes))
    service_class = 0
    if kind != SELFISH_GREEDY and task[DELAY_WEIGHT] < math.exp(parameters[-1]):
        service_class = classes - 1
    if kind < SELFISH_GREEDY:
        k = int(min(max(round(parameters[0]), 0), grid_size - 1))
        slot = _slot_with_fixed_steps(kind, parameters, step_grid[k], candidates, draw)
    else:
        slot, k = _least_cost(kind, parameters, step_grid, task, candidates, cost, service_class, draw)
    action: int = encode_action(slot, k, service_class, grid_size, classes)
    return action


def _slot_with_fixed_steps(kind: int, parameters: Values, steps: int, candidates: Values, draw: float) -> int:
    """The present slot with the best score, or, for the random rules, one drawn in proportion to its score."""
    if kind == LOCAL_ONLY:
        return 0
    best, best_score, total = 0, -np.inf, 0.0
    for s in range(len(candidates)):
        score = _score(kind, parameters, steps, candidates, s)
        total += score if score > 0.0 else 0.0
        if score > best_score:
            best, best_score = s, score
    if kind != RANDOM and kind != CAPACITY_RANDOM:
        return best
    left = draw * total
    for s in range(len(candidates)):
        left -= _score(kind, parameters, steps, candidates, s)
        if left < 0.0:
            return s
    return best


def _score(kind: int, parameters: Values, steps: int, candidates: Values, s: int) -> float:
    """The score of a slot; the probability weight for the random rules (0 where the slot is not present)."""
    row = candidates[s]
    random = kind == RANDOM or kind == CAPACITY_RANDOM
    if row[PRESENT] == 0.0:
        return 0.0 if random else -np.inf
    if kind == NEAREST_BS:
        up_s: float = row[UP_S]
        return -1e9 if s == 0 else -up_s
    if kind == SHORTEST_QUEUE:
        load: float = row[LOAD]
        return -load
    if kind == CAPACITY_RANDOM:
        tasks_per_s: float = 1.0 / server_seconds(row[FIXED_S], row[SERVER_STEP_S], steps)
        return tasks_per_s * math.exp(parameters[1]) if s == 0 else tasks_per_s
    return 1.0


def _least_cost(
    kind: int,
    parameters: Values,
    step_grid: NDArray[np.int64],
    task: Values,
    candidates: Values,
    cost: Values,
    service_class: int,
    draw: float,
) -> tuple[int, int]:
    """(slot, step index) of the least expected cost plus surcharge; with a temperature, a draw from its softmax."""
    slots, grid_size, classes = cost.shape
    value = np.full((slots, grid_size), np.inf)
    best_s, best_k = 0, 0
    for s in range(slots):
        if candidates[s, PRESENT] > 0.0:
            for k in range(grid_size):
                value[s, k] = cost[s, k, service_class] + _surcharge(
                    kind, parameters, classes, task, candidates[s], s, step_grid[k], service_class
                )
                if value[s, k] < value[best_s, best_k]:
                    best_s, best_k = s, k
    if kind != PRICED_GREEDY:
        return best_s, best_k
    weight = np.exp((value[best_s, best_k] - value) / math.exp(parameters[-2]))
    left = draw * weight.sum()
    for s in range(slots):
        for k in range(grid_size):
            left -= weight[s, k]
            if left < 0.0:
                return s, k
    return best_s, best_k


def _surcharge(
    kind: int,
    parameters: Values,
    classes: int,
    task: Values,
    row: Values,
    s: int,
    steps: int,
    service_class: int,
) -> float:
    """What a rule adds to the selfish expected cost of a choice, on behalf of the other UEs."""
    if kind == SELFISH_GREEDY:
        return 0.0
    server_s: float = server_seconds(row[FIXED_S], row[SERVER_STEP_S], steps)
    wait: float = task[DELAY_WEIGHT] * row[WAIT_S + service_class]
    price: float
    if kind == LYAPUNOV:
        # Drift plus penalty (Neely 2010): the cost without waiting, plus backlog times the work added, over V.
        backlog_s: float = row[WAIT_S + classes - 1]
        return backlog_s * server_s * math.exp(-parameters[0]) - wait
    if kind == PRICED_GREEDY_3:
        if s == 0:
            return 0.0
        price = server_price(parameters[0], parameters[1], row[LOAD])
        return price * server_s
    bs_count = (parameters.shape[0] - 6) // 2
    own = 2 * bs_count  # after the prices and growths of the BSs
    in_flight: float = parameters[own + 2]
    wait_factor: float = parameters[own + 3]
    if s == 0:
        price = server_price(parameters[own], parameters[own + 1], row[LOAD])
    else:
        j = int(row[NUMBER]) - 1
        load = effective_load(row[LOAD], in_flight, row[IN_FLIGHT])
        price = server_price(parameters[j], parameters[bs_count + j], load)
    return price * server_s + wait_factor * wait


# What ``choose`` calls: to compile ``choose``, register these with numba first.
COMPILED_HELPERS = (
    encode_action,
    server_seconds,
    effective_load,
    server_price,
    _slot_with_fixed_steps,
    _score,
    _least_cost,
    _surcharge,
)
