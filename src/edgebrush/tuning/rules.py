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

import numpy as np

from edgebrush.evaluation.episodes import RuleTable
from edgebrush.policies.load import shipped_rules
from edgebrush.policies.rules import KINDS, Rule, numbers_of
from edgebrush.progress import ProgressCallback, no_progress
from edgebrush.scenario.expand import choice_shape
from edgebrush.scenario.load import fingerprint
from edgebrush.scenario.schema import Scenario
from edgebrush.tuning.cmaes import Budget, search

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


def rules_of(scenario: Scenario, progress: ProgressCallback = no_progress) -> list[Rule]:
    """Every rule, with the numbers that ship with a preset, else tuned on the spot."""
    shipped = shipped_rules(scenario)
    if shipped is not None:
        return shipped
    tuned = tune_all(scenario, QUICK, lambda rule, share: progress("tuning the rules", share, rule))
    return [rule_of(scenario, each.rule, each.numbers) for each in tuned]


def prices_of(scenario: Scenario, progress: ProgressCallback = no_progress) -> np.ndarray:
    """The numbers of the tuned priced greedy rule, from which learners start."""
    return next(rule.numbers for rule in rules_of(scenario, progress) if rule.name == "priced-greedy")
