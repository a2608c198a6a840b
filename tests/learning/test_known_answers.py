"""Every learner finds the best policy of small worlds where it can be computed.

The whole training runs: collection, updates, validation. Only the world is a toy, see tests/support/toys.py.
"""

import numpy as np
import pytest

from edgebrush.learning import rollout
from edgebrush.learning.registry import ALGORITHMS, configure
from edgebrush.scenario.load import load_scenario
from tests.support import toys

pytestmark = pytest.mark.training

SIZE = {"copies": 4, "groups": 16, "length": 32, "learning_rate": 0.02, "discount_per_s": toys.TwoStates.DISCOUNT_PER_S}
NETWORKS = {"minibatches": 4, "critic_updates": 2, "actor_hidden": 16, "critic_hidden": 16}
REPLAYED = {
    "horizon": 2,
    "replay": 8192,
    "minibatch": 8,
    "gradient_steps": 16,
    "value_speed": 1.0,
    "value_updates": 2,
    "actor_hidden": 16,
    "critic_hidden": 16,
}
SETTINGS = {
    "mappo": {**SIZE, **NETWORKS},
    "ippo": {**SIZE, **NETWORKS},
    "maa2c": {**SIZE, **NETWORKS},
    "masl": SIZE,
    "d3qn": {**SIZE, **REPLAYED},
    "vdn": {**SIZE, **REPLAYED, "window": 2},
    "qmix": {**SIZE, **REPLAYED, "window": 2},
    "maddpg": {**SIZE, **REPLAYED, "window": 2},
    "d2sac": {**SIZE, **REPLAYED},
}


def trained(name, toy, monkeypatch):
    monkeypatch.setattr(rollout, "Simulator", toy)
    config = configure(name, SETTINGS[name], seconds=None, decisions=50 * 64 * 32)
    training = ALGORITHMS[name].training(load_scenario("pair"), config, 1, None)
    while training.share < 1.0:
        training.step()
    return training


JOINT = ("vdn", "qmix", "maddpg")  # joint decisions assume that deciders do not see each other's choices


@pytest.mark.parametrize(
    ("toy", "name"),
    [
        *((toys.MatrixGame, name) for name in SETTINGS),
        *((toys.TwoStates, name) for name in SETTINGS if name not in (*JOINT, "d2sac")),
        pytest.param(toys.TwoStates, "d2sac", marks=pytest.mark.slow),  # half a minute
    ],
)
def test_the_optimum_is_found(name, toy, monkeypatch):
    training = trained(name, toy, monkeypatch)
    world = training.collector.simulator
    best = world.strategies(training.actor)[np.arange(world.situations), world.optimum()]
    assert (best > 0.9).all(), best
    assert training.rows[-1]["cost"] < training.rows[0]["cost"]


def test_the_optima_are_neither_myopic_nor_cautious():
    assert toys.TwoStates(None, 1).optimum().tolist() == [1, 1]
    assert toys.TwoStates.REWARD.argmax(axis=1).tolist() == [0, 0]
    assert toys.MatrixGame(None, 1).optimum().tolist() == [0, 0]
