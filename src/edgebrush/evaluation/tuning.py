"""Tuning the rules' numbers by an evolution strategy (CMA-ES, Hansen 2016) on tuning seeds.

Every generation plays fresh episodes, the same ones for all its candidates, so the search neither overfits a set
of episodes nor compares luck. What it returns is the better, on validation seeds, of the strategy's favourite and
of its start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from typing import Protocol

import cma
import numpy as np

from edgebrush.policies.rules import KINDS, Rule, numbers_of
from edgebrush.scenario.load import fingerprint
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.seeds import TUNING_SEEDS, VALIDATION_SEEDS
from edgebrush.sim.tables import choice_shape

from .episodes import RuleTable

POPULATION = 16


@dataclass(frozen=True)
class Budget:
    """What the priced greedy rule's search may spend; rules of 2 or 3 numbers need less."""

    evaluations: int
    episodes: int  # of each evaluation

    def of(self, numbers: int) -> Budget:
        """The budget of a rule with so many numbers."""
        fewer = min(self.evaluations, max(FEWEST, self.evaluations // 16))
        return self if numbers > 3 else Budget(fewer if numbers else 0, self.episodes)

    def __str__(self) -> str:
        return f"{self.evaluations} evaluations of {self.episodes} episodes"


FEWEST = 160  # evaluations of a rule with 2 or 3 numbers
QUICK = Budget(640, 16)  # on the spot, for one's own scenario


@dataclass
class Tuned:
    """A rule's numbers as a search left them."""

    rule: str
    numbers: np.ndarray
    cost: float  # mean cost per task on the validation seeds
    budget: Budget
    log: list[dict] = field(default_factory=list)  # one row per generation


def rule_of(scenario: Scenario, rule: str, numbers: np.ndarray) -> Rule:
    """A rule with its numbers, as a policy for this scenario."""
    return Rule(rule, numbers, choice_shape(scenario), np.array(scenario.decision.step_grid))


def tune(
    scenario: Scenario, rule: str, budget: Budget, progress: Callable[[float], None] = lambda share: None
) -> Tuned:
    """Search a rule's numbers; ``progress`` hears what share of the budget is spent."""
    numbers = numbers_of(KINDS[rule], scenario.bs_count)
    start = np.array([number.start for number in numbers])
    spread = np.array([number.spread for number in numbers])
    best, costs, log = search(start, spread, partial(RuleTable, scenario, rule), budget, progress)
    return Tuned(rule, best, min(costs), budget, log)


class Table(Protocol):
    """Plays many settings of a policy's numbers on the same episodes."""

    seeds: np.ndarray

    def costs(self, numbers: Sequence[np.ndarray]) -> np.ndarray:
        """Mean cost per task ``(settings,)`` of each row of ``numbers``."""
        ...


def search(
    start: np.ndarray, spread: np.ndarray, table_of: Callable[[np.ndarray, int], Table], budget: Budget,
    progress: Callable[[float], None],
) -> tuple[np.ndarray, list[float], list[dict]]:  # fmt: skip
    """The best numbers found from ``start``, each tried about ``spread`` away from it at first.

    ``table_of(seeds, settings)`` makes the table. Also returns the costs on validation seeds, of the start and, where
    anything may be spent, of the search's favourite, and one row of the log per generation.
    """
    tried, log = [start], []
    if budget.evaluations:
        options = {"popsize": POPULATION, "seed": 1, "CMA_stds": spread, "verbose": -9}
        strategy = cma.CMAEvolutionStrategy(start, 1.0, options)
        table = table_of(np.arange(budget.episodes), POPULATION)
        for generation in range(budget.evaluations // POPULATION):
            table.seeds = TUNING_SEEDS + np.arange(budget.episodes) + generation * budget.episodes
            candidates = strategy.ask()
            costs = table.costs(candidates)
            strategy.tell(candidates, costs)
            done = (generation + 1) * POPULATION
            log.append({"evaluations": done, "best": costs.min(), "mean": costs.mean(), "sigma": strategy.sigma})
            progress(done / budget.evaluations)
        tried.append(strategy.result.xfavorite)
    validated = table_of(VALIDATION_SEEDS + np.arange(256), len(tried)).costs(tried)
    return tried[int(np.argmin(validated))], validated.tolist(), log


def tune_all(
    scenario: Scenario, budget: Budget, progress: Callable[[str, float], None] = lambda rule, share: None
) -> list[Tuned]:
    """Tune every rule; ``progress`` hears of the rule at work and the share of all rules' work that is done."""
    budgets = {rule: budget.of(len(numbers_of(kind, scenario.bs_count))) for rule, kind in KINDS.items()}
    total, spent, tuned = sum(each.evaluations for each in budgets.values()), 0, []
    for rule, own in budgets.items():
        def hear(share: float, rule: str = rule, spent: int = spent, own: Budget = own) -> None:
            progress(rule, (spent + share * own.evaluations) / total)

        tuned.append(tune(scenario, rule, own, hear))
        spent += own.evaluations
    return tuned


def rules_json(scenario: Scenario, tuned: Sequence[Tuned], command: str) -> str:
    """The numbers of all rules as a file that ships beside a preset, see ``policies/shipped.py``."""
    rules = {
        each.rule: {
            "cost": each.cost,
            "budget": asdict(each.budget),
            "numbers": {
                number.name: value
                for number, value in zip(
                    numbers_of(KINDS[each.rule], scenario.bs_count), each.numbers.tolist(), strict=True
                )
            },
        }
        for each in tuned
    }
    about = {"command": command, "date": f"{date.today()}", "scenario": fingerprint(scenario), "rules": rules}
    return json.dumps(about, indent=2) + "\n"


def log_csv(tuned: Sequence[Tuned]) -> str:
    """The searches' logs, one row per generation."""
    lines = ["rule,evaluations,best,mean,sigma"]
    lines += [
        f"{each.rule},{row['evaluations']},{row['best']:.6f},{row['mean']:.6f},{row['sigma']:.4g}"
        for each in tuned
        for row in each.log
    ]
    return "\n".join(lines) + "\n"
