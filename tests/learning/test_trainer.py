"""Every algorithm's training: the same seed gives the same numbers, and a checkpoint resumes exactly."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from edgebrush.learning import trainer
from edgebrush.learning.registry import ALGORITHMS, configure
from edgebrush.scenario.load import load_scenario

SIZE = {"copies": 2, "groups": 4, "length": 16}
NETWORKS = {"minibatches": 2, "critic_updates": 1, "actor_hidden": 8, "critic_hidden": 8}
REPLAYED = {"horizon": 8, "replay": 256, "gradient_steps": 4, "value_updates": 1, "actor_hidden": 8, "critic_hidden": 8}
TINY = {
    "mappo": {**SIZE, **NETWORKS},
    "ippo+common": {**SIZE, **NETWORKS},
    "maa2c+common": {**SIZE, **NETWORKS},
    "masl+common": SIZE,
    "d3qn+common": {**SIZE, **REPLAYED},
    "vdn+common": {**SIZE, **REPLAYED},
    "qmix+common": {**SIZE, **REPLAYED},
    "maddpg+common": {**SIZE, **REPLAYED},
    "d2sac+common": {**SIZE, **REPLAYED},
    "ippo": {**SIZE, **NETWORKS},
    "d3qn": {**SIZE, **REPLAYED},
    "maddpg": {**SIZE, **REPLAYED},
    "d2sac": {**SIZE, **REPLAYED},
}


@pytest.mark.training
@pytest.mark.parametrize("name", TINY)
def test_a_resumed_training_is_the_uninterrupted_one(name, tmp_path):
    pair, algorithm = load_scenario("pair"), ALGORITHMS[name]

    def training(seed=1, **other):
        config = configure(name, {**TINY[name], **other}, seconds=None, decisions=512)
        return algorithm.training(pair, config, seed, None)

    whole = training()
    for _ in range(3):
        whole.step()
    first = training()
    first.step()
    first.save(tmp_path / "checkpoint.npz")
    second = training()
    second.load(tmp_path / "checkpoint.npz")
    second.step()
    second.step()
    assert second.share == 0.75
    for a, b in zip(jax.tree.leaves(whole.learner), jax.tree.leaves(second.learner), strict=True):
        np.testing.assert_array_equal(a, b)
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in whole.rows]
    assert rows == [{key: value for key, value in row.items() if key != "seconds"} for row in second.rows]
    assert set(rows[0]) >= {"update", "decisions", "seed", "cost", "validation_cost"}
    assert training(seed=2).step()["cost"] != rows[0]["cost"]
    with pytest.raises(ValueError, match="other settings"):
        training(discount_per_s=0.5).load(tmp_path / "checkpoint.npz")


def test_the_policy_that_is_saved_is_the_best_that_was_validated(tmp_path, monkeypatch):
    costs = iter([0.9, 0.5, 0.7, 0.6])
    monkeypatch.setattr(trainer, "validate", lambda scenario, actor: next(costs))
    config = configure("mappo", TINY["mappo"], seconds=None, decisions=4 * 128)
    training = ALGORITHMS["mappo"].training(load_scenario("pair"), config, 1, None)
    weights = []
    while training.share < 1.0:
        training.step()
        weights.append({name: np.asarray(value) for name, value in training.deployed.all_weights().items()})
    training.save_policy(tmp_path)
    saved = safetensors.numpy.load_file(tmp_path / "actor.safetensors")
    for name, value in weights[1].items():
        np.testing.assert_array_equal(saved[name], value)
    about = json.loads((tmp_path / "policy.json").read_text())
    assert about["best_validation"] == {"decisions": 256, "cost": 0.5}
    assert about["last_validation"] == {"decisions": 512, "cost": 0.6}


def test_validations_are_spread_evenly_over_the_decisions(monkeypatch):
    monkeypatch.setattr(trainer, "validate", lambda scenario, actor: 1.0)
    config = configure("mappo", TINY["mappo"], seconds=None, decisions=60 * 128)
    training = ALGORITHMS["mappo"].training(load_scenario("pair"), config, 1, None)
    while training.share < 1.0:
        training.step()
    validated = [row["update"] for row in training.rows if "validation_cost" in row]
    assert validated == [1, *range(3, 61, 3)]


def test_a_training_without_a_better_validation_ends_after_its_patience(monkeypatch):
    costs = iter([0.9, 0.8, *[0.85] * 60])
    monkeypatch.setattr(trainer, "validate", lambda scenario, actor: next(costs))
    config = configure("mappo", {**TINY["mappo"], "patience": 5 * 128}, seconds=None, decisions=40 * 128)
    training = ALGORITHMS["mappo"].training(load_scenario("pair"), config, 1, None)
    while training.share < 1.0:
        training.step()
    assert training.best.decisions == 2 * 128 and training.decisions == 7 * 128
