"""Tuning of the rules' parameters by CMA-ES, and the tuned rules of a scenario."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from typing import Any

import numpy as np

from edgebrush.evaluation.episodes import RuleEvaluator
from edgebrush.policies.load import shipped_rules
from edgebrush.policies.rules import KINDS, Rule, tunable_parameters
from edgebrush.progress import ProgressCallback, ShareCallback, no_progress, no_share
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.load import fields_hash
from edgebrush.scenario.schema import Scenario
from edgebrush.tuning.cmaes import Budget, cma_search

QUICK_BUDGET = Budget(640, 16)  # for a scenario without shipped rules, when a command needs them


@dataclass
class TunedRule:
    """A rule's parameters as a search found them."""

    rule: str
    parameters: np.ndarray
    cost: float  # mean cost per task on validation episodes
    budget: Budget
    log: list[dict[str, Any]] = field(default_factory=list)  # one row per generation


def rule_of(scenario: Scenario, rule: str, parameters: np.ndarray) -> Rule:
    """The rule with these parameters as a policy for the scenario."""
    return Rule(rule, parameters, action_space(scenario))


def tune(scenario: Scenario, rule: str, budget: Budget, progress: ShareCallback = no_share) -> TunedRule:
    """Tune one rule: the better of its default parameters and the search's favourite, on validation episodes."""
    parameters = tunable_parameters(KINDS[rule], scenario.bs_count)
    start = np.array([parameter.start for parameter in parameters])
    spread = np.array([parameter.spread for parameter in parameters])
    found = cma_search(start, spread, partial(RuleEvaluator, scenario, rule), budget, progress)
    return TunedRule(rule, found.parameters, min(found.costs), budget, found.log)


def tune_all(scenario: Scenario, budget: Budget, progress: ProgressCallback = no_progress) -> list[TunedRule]:
    """Tune every rule; ``progress`` gets the share of all evaluations that are done, and the rule as its note."""
    budgets = {
        rule: budget.for_parameters(len(tunable_parameters(kind, scenario.bs_count))) for rule, kind in KINDS.items()
    }
    total, spent, tuned = sum(each.evaluations for each in budgets.values()), 0, []
    for rule, rule_budget in budgets.items():

        def report(share: float, rule: str = rule, spent: int = spent, count: int = rule_budget.evaluations) -> None:
            progress("tuning the rules", (spent + share * count) / total, rule)

        tuned.append(tune(scenario, rule, rule_budget, report))
        spent += rule_budget.evaluations
    return tuned


def tuned_rules(scenario: Scenario, progress: ProgressCallback = no_progress) -> list[Rule]:
    """Every rule with tuned parameters: those that ship with a preset, else those of a quick search."""
    shipped = shipped_rules(scenario)
    if shipped is not None:
        return shipped
    tuned = tune_all(scenario, QUICK_BUDGET, progress)
    return [rule_of(scenario, each.rule, each.parameters) for each in tuned]


def start_prices(scenario: Scenario, progress: ProgressCallback = no_progress) -> np.ndarray:
    """The parameters of the tuned priced-greedy rule, from which learners start."""
    return next(rule.parameters for rule in tuned_rules(scenario, progress) if rule.name == "priced-greedy")


def rules_json(scenario: Scenario, tuned: Sequence[TunedRule], command: str) -> str:
    """The content of ``<scenario>.rules.json``, which ``policies.load.shipped_rules`` reads."""
    rules = {each.rule: _rule_json(scenario, each) for each in tuned}
    content = {"command": command, "date": f"{date.today()}", "scenario": fields_hash(scenario), "rules": rules}
    return json.dumps(content, indent=2) + "\n"


def _rule_json(scenario: Scenario, tuned: TunedRule) -> dict[str, Any]:
    names = [parameter.name for parameter in tunable_parameters(KINDS[tuned.rule], scenario.bs_count)]
    numbers = dict(zip(names, tuned.parameters.tolist(), strict=True))
    return {"cost": tuned.cost, "budget": asdict(tuned.budget), "numbers": numbers}


def log_csv(tuned: Sequence[TunedRule]) -> str:
    """The logs of the searches as CSV, one row per generation."""
    lines = ["rule,evaluations,best,mean,sigma"]
    lines += [
        f"{each.rule},{row['evaluations']},{row['best']:.6f},{row['mean']:.6f},{row['sigma']:.4g}"
        for each in tuned
        for row in each.log
    ]
    return "\n".join(lines) + "\n"
