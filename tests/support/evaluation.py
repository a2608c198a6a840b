"""Fixtures of evaluation, tuning and study: a tiny scenario, a tiny tuning budget, random actors for trained ones."""

import numpy as np
import pytest

from edgebrush.learning import CURVE
from edgebrush.learning import launcher as seeds
from edgebrush.learning.networks import new_actor
from edgebrush.policies.folder import save_policy
from edgebrush.policies.rules import KINDS, Rule, tunable_parameters
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.simulator import Simulator
from edgebrush.tuning import rules
from edgebrush.tuning.cmaes import Budget


@pytest.fixture(scope="session")
def tiny():
    """The preset `pair` with episodes of 20 s, under a name without shipped rules."""
    return load_scenario("pair").model_copy(update={"name": "tiny", "horizon_s": 20.0})


@pytest.fixture
def quick(monkeypatch):
    """A tiny budget for the tuning of rules that do not ship."""
    monkeypatch.setattr(rules, "QUICK_BUDGET", Budget(32, 4))


@pytest.fixture(scope="session")
def rule():
    """A function that makes a rule with the parameters from which its search starts."""

    def make(scenario, name):
        numbers = np.array([number.start for number in tunable_parameters(KINDS[name], scenario.bs_count)])
        return Rule(name, numbers, action_space(scenario))

    return make


@pytest.fixture
def drawn(monkeypatch):
    """Trainings that make a random actor instead; the list of the trainings."""
    trainings = []

    def train(scenario, algorithm, config, training_seeds, folder, prices, hear, workers):
        (seed,) = training_seeds
        simulator = Simulator(scenario, 1)
        rng = np.random.default_rng([seed, *algorithm.encode()])
        actor = new_actor(rng, simulator.layout, 8, scenario.bs_count, prices)
        weights = {name: np.asarray(value) for name, value in actor.all_weights().items()}
        weights["price_own"] = np.asarray(weights["price_own"] + 0.1 * rng.random(), np.float32)
        about = {"step_grid": list(scenario.decision.step_grid), "classes": scenario.decision.classes}
        save_policy(folder / f"seed-{seed}", algorithm, weights, about)
        costs = [f"{seed},{32 * n},{n},{1 / n + 0.01 * seed}" for n in (1, 2)]
        (folder / CURVE).write_text("\n".join(["seed,decisions,seconds,validation_cost", *costs]) + "\n")
        trainings.append((scenario, algorithm, config, seed))
        hear({"share": 1.0})

    monkeypatch.setattr(seeds, "train", train)
    return trainings
