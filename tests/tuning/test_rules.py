"""Tuning of the rules: the search finds better parameters, and evaluates them as they will be played."""

import json

import numpy as np
import pytest

from edgebrush.evaluation.episodes import RuleEvaluator, play
from edgebrush.policies.rules import KINDS, tunable_parameters
from edgebrush.tuning.cmaes import Budget
from edgebrush.tuning.rules import log_csv, rule_of, rules_json, tune


def test_a_search_improves_on_its_start(tiny):
    start = np.array([number.start for number in tunable_parameters(KINDS["local-only"], 2)])
    found = tune(tiny, "local-only", Budget(96, 8))
    before = RuleEvaluator(tiny, "local-only", np.arange(64), 1).costs([start])[0]
    after = RuleEvaluator(tiny, "local-only", np.arange(64), 1).costs([found.parameters])[0]
    assert after < before and [row["evaluations"] for row in found.log] == [16, 32, 48, 64, 80, 96]
    assert len(log_csv([found]).splitlines()) == 7
    written = json.loads(rules_json(tiny, [found], "command"))["rules"]["local-only"]["numbers"]
    assert list(written.values()) == list(found.parameters)


def test_the_evaluators_costs_are_those_of_the_tasks(tiny):
    numbers = np.array([number.start for number in tunable_parameters(KINDS["priced-greedy"], 2)])
    outcomes = play(tiny, rule_of(tiny, "priced-greedy", numbers), np.arange(8))
    cost = RuleEvaluator(tiny, "priced-greedy", np.arange(8), 1).costs([numbers])[0]
    assert cost == pytest.approx(outcomes["cost"].mean(), rel=1e-9)
