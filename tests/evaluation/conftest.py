"""One tiny world for all tests of the evaluation, its rules tuned with a tiny budget."""

import numpy as np
import pytest

from edgebrush.evaluation import compare
from edgebrush.evaluation.tuning import Budget
from edgebrush.policies.rules import KINDS, Rule, numbers_of
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.tables import choice_shape


@pytest.fixture(scope="session")
def tiny():
    """The preset `pair` with episodes of 20 s, under a name that no shipped numbers are for."""
    return load_scenario("pair").model_copy(update={"name": "tiny", "horizon_s": 20.0})


@pytest.fixture
def quick(monkeypatch):
    """Rules tuned on the spot with next to no budget."""
    monkeypatch.setattr(compare, "QUICK", Budget(32, 4))


@pytest.fixture(scope="session")
def rule():
    """Makes a rule with the numbers that its search starts from."""

    def make(scenario, name):
        numbers = np.array([number.start for number in numbers_of(KINDS[name], scenario.bs_count)])
        return Rule(name, numbers, choice_shape(scenario), np.array(scenario.decision.step_grid))

    return make
