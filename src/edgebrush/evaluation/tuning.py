"""Tuning the rules' numbers by an evolution strategy (CMA-ES, Hansen 2016) on tuning seeds.

Every generation plays fresh episodes, the same ones for all its candidates, so the search neither overfits a set
of episodes nor compares luck. What it returns is the better, on validation seeds, of the strategy's favourite and
of its start.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cma
import numpy as np

from edgebrush.policies.rules import KINDS, Rule, numbers_of
from edgebrush.scenario.load import PRESETS
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.tables import choice_shape

from .episodes import TUNING_SEEDS, VALIDATION_SEEDS, RuleTable

POPULATION = 16


@dataclass(frozen=True)
class Budget:
    """What one rule's search may spend."""

    evaluations: int
    episodes: int  # of each evaluation

    def __str__(self) -> str:
        return f"{self.evaluations} evaluations of {self.episodes} episodes"


FULL = Budget(5000, 64)  # the shipped numbers of the priced greedy rule
QUICK = Budget(480, 16)  # on the spot, for one's own scenario


@dataclass
class Tuned:
    """A rule's numbers as a search left them."""

    rule: str
    numbers: np.ndarray
    cost: float  # mean cost per task on the validation seeds
    budget: Budget
    log: list[dict] = field(default_factory=list)  # one row per generation


def tune(
    scenario: Scenario, rule: str, budget: Budget, progress: Callable[[int, float], None] = lambda done, cost: None
) -> Tuned:
    """Search a rule's numbers; ``progress`` hears of evaluations done and the generation's best cost."""
    numbers = numbers_of(KINDS[rule], scenario.bs_count)
    start = np.array([number.start for number in numbers])
    if not numbers:
        return Tuned(rule, start, _validate(scenario, rule, [start])[0], Budget(0, budget.episodes))
    spread = np.array([number.spread for number in numbers])
    options = {"popsize": POPULATION, "seed": 1, "CMA_stds": spread, "verbose": -9}
    strategy = cma.CMAEvolutionStrategy(start, 1.0, options)
    table = RuleTable(scenario, rule, np.arange(budget.episodes), POPULATION)
    log = []
    for generation in range(budget.evaluations // POPULATION):
        table.seeds = TUNING_SEEDS + np.arange(budget.episodes) + generation * budget.episodes
        candidates = strategy.ask()
        costs = table.costs(candidates)
        strategy.tell(candidates, costs)
        done = (generation + 1) * POPULATION
        log.append(
            {"rule": rule, "evaluations": done, "best": costs.min(), "mean": costs.mean(), "sigma": strategy.sigma}
        )
        progress(done, costs.min())
    favourite = strategy.result.xfavorite
    costs = _validate(scenario, rule, [start, favourite])
    best = int(np.argmin(costs))
    return Tuned(rule, (start, favourite)[best], costs[best], budget, log)


def _validate(scenario: Scenario, rule: str, settings: list[np.ndarray]) -> np.ndarray:
    return RuleTable(scenario, rule, VALIDATION_SEEDS + np.arange(256), len(settings)).costs(settings)
