"""Every learner finds the best policy of small worlds where it can be computed.

The whole training runs: collection, updates, validation. Only the world is a toy, see tests/support/toys.py.
"""

import numpy as np
import pytest

from edgebrush.learning import rollout, trainer
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
OURS = {
    "mappo": {**SIZE, **NETWORKS},
    "ippo+common": {**SIZE, **NETWORKS},
    "maa2c+common": {**SIZE, **NETWORKS},
    "masl+common": SIZE,
    "d3qn+common": {**SIZE, **REPLAYED},
    "vdn+common": {**SIZE, **REPLAYED, "window": 2},
    "qmix+common": {**SIZE, **REPLAYED, "window": 2},
    "maddpg+common": {**SIZE, **REPLAYED, "window": 2},
    "d2sac+common": {**SIZE, **REPLAYED},
}
ALONE = {"copies": 1, "groups": 64, "learning_rate": 0.01}  # without common arrivals
GREEDY = {**REPLAYED, **ALONE, "epsilon_decisions": 0.5}
PUBLISHED = {
    "mappo-published": {**SIZE, **NETWORKS, **ALONE},
    "ippo": {**SIZE, **NETWORKS, **ALONE},
    "maa2c": {**SIZE, **NETWORKS, **ALONE},
    "masl": {**SIZE, **ALONE},
    "d3qn": {**SIZE, **GREEDY},
    "vdn": {**SIZE, **GREEDY, "window": 2},
    "qmix": {**SIZE, **GREEDY, "window": 2},
    "maddpg": {**SIZE, **REPLAYED, **ALONE, "window": 2},
    "d2sac": {**SIZE, **REPLAYED, **ALONE},
}
SETTINGS = {**OURS, **PUBLISHED}


def trained(name, toy, monkeypatch):
    monkeypatch.setattr(rollout, "Simulator", toy)
    monkeypatch.setattr(trainer, "VALIDATIONS", 2)  # which would take longer than the training
    config = configure(name, SETTINGS[name], seconds=None, decisions=50 * 64 * 32)
    training = ALGORITHMS[name].training(load_scenario("pair"), config, 1, None)
    while training.share < 1.0:
        training.step()
    return training


JOINT = tuple(
    name for name in SETTINGS if name.startswith(("vdn", "qmix", "maddpg"))
)  # joint decisions assume that deciders do not see each other's choices


@pytest.mark.parametrize(
    ("toy", "name"),
    [
        *((toys.MatrixGame, name) for name in SETTINGS),
        *((toys.TwoStates, name) for name in SETTINGS if name not in JOINT and not name.startswith("d2sac")),
        *(pytest.param(toys.TwoStates, name, marks=pytest.mark.slow) for name in ("d2sac", "d2sac+common")),
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
