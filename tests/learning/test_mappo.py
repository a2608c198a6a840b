"""MAPPO: its parts against plain loops and known answers; seeds in parallel."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from edgebrush.errors import UserError
from edgebrush.evaluation.episodes import play
from edgebrush.learning import CHECKPOINT
from edgebrush.learning.algorithms.mappo import MappoConfig, Training
from edgebrush.learning.launcher import train
from edgebrush.learning.networks import new_actor, orthogonal
from edgebrush.learning.returns import gae, subtract_group_mean
from edgebrush.learning.rollout import RolloutCollector, act, validate
from edgebrush.policies.actor import Actor
from edgebrush.policies.folder import read_policy
from edgebrush.policies.rules import PRICED_GREEDY, tunable_parameters
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.simulator import Simulator
from edgebrush.tuning.rules import rule_of

TINY = MappoConfig(
    decisions=512,
    copies=2,
    groups=4,
    length=16,
    epochs=2,
    minibatches=2,
    critic_updates=1,
    actor_hidden=8,
    critic_hidden=8,
)


@pytest.fixture(scope="module")
def pair():
    return load_scenario("pair")


def an_actor(scenario, simulator, numbers=None):
    rng = np.random.default_rng(3)
    return new_actor(rng, simulator.layout, 8, scenario.bs_count, numbers)


def test_gae_is_the_plain_recursion_with_a_discount_per_gap():
    rng = np.random.default_rng(1)
    rewards, gaps, values = rng.normal(size=(7, 3)), rng.exponential(size=(7, 3)), rng.normal(size=(8, 3))
    expected, carry = np.zeros((7, 3)), np.zeros(3)
    for t in reversed(range(7)):
        gamma, trace = np.exp(-0.1 * gaps[t]), np.exp(-0.3 * gaps[t])
        carry = rewards[t] + gamma * values[t + 1] - values[t] + gamma * trace * carry
        expected[t] = carry
    found = gae(*(jnp.asarray(x, jnp.float32) for x in (rewards, gaps, values)), 0.1, 0.3)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


def test_subtracting_the_group_mean_removes_what_all_copies_share():
    noise = np.repeat(np.random.default_rng(2).normal(size=(5, 4)), 3, axis=1)  # the same in 3 copies of 4 groups
    own = np.tile([-1.0, 0.0, 1.0], (5, 4))
    np.testing.assert_allclose(subtract_group_mean(jnp.asarray(noise + own), 3), own, atol=1e-6)


def test_orthogonal():
    w = orthogonal(np.random.default_rng(0), 5, 9, 2.0)
    np.testing.assert_allclose(w @ w.T, 4.0 * np.eye(5), atol=1e-5)


def test_copies_of_a_group_decide_on_the_same_tasks(pair):
    collector = RolloutCollector(pair, groups=3, copies=2, length=32, seed=5)
    rollout = collector.collect(an_actor(pair, collector.simulator))
    gaps = rollout.gaps_s.reshape(32, 3, 2)
    np.testing.assert_array_equal(gaps[..., 0], gaps[..., 1])
    task = rollout.observations[:, :, :4].reshape(32, 3, 2, 4)
    np.testing.assert_array_equal(task[:, :, 0], task[:, :, 1])
    choices = rollout.choices.reshape(32, 3, 2)
    assert (choices[..., 0] != choices[..., 1]).any()


def test_numpy_and_jax_agree_and_never_choose_an_absent_candidate(pair):
    simulator = Simulator(pair, 64, states=True)
    simulator.reset(np.arange(64))
    actor = an_actor(pair, simulator)
    weights = {name: np.asarray(value) for name, value in actor.all_weights().items()}
    numpy_actor = Actor("a", weights, simulator.action_space)
    rng = np.random.default_rng(0)
    same = 0
    for _ in range(20):
        draws = rng.random(64).astype(np.float32)
        choices = np.asarray(act(actor, simulator.observations, draws)[0])
        same += (numpy_actor.choose(simulator.observations, draws) == choices).sum()
        slots = choices // simulator.action_space.per_slot
        _, candidates, _ = simulator.layout.split(simulator.observations)
        assert (candidates[np.arange(64), slots, 0] == 1.0)[simulator.alive].all()
        simulator.step(choices)
    assert same >= 0.995 * 20 * 64  # float32 rounding may move a draw across a boundary


def test_the_actor_starts_as_the_tuned_rule(pair):
    numbers = np.array([number.start for number in tunable_parameters(PRICED_GREEDY, pair.bs_count)])
    simulator = Simulator(pair, 64, states=True)
    actor = an_actor(pair, simulator, numbers)
    weights = {k: np.asarray(v) for k, v in actor.all_weights().items()}
    seeds = np.arange(128)
    rule = play(pair, rule_of(pair, "priced-greedy", numbers), seeds)["cost"].mean()
    started = play(pair, Actor("a", weights, simulator.action_space), seeds)["cost"].mean()
    assert started == pytest.approx(rule, rel=0.05)


@pytest.mark.process
def test_seeds_are_trained_in_parallel_and_their_policies_load(pair, tmp_path):
    rows = []
    folders = train(pair, "mappo", TINY, (1, 2), tmp_path, None, rows.append)
    assert sorted((row["seed"], row["update"]) for row in rows) == [(s, u) for s in (1, 2) for u in (1, 2, 3, 4)]
    assert not (tmp_path / CHECKPOINT).exists()
    assert len((tmp_path / "curve.csv").read_text().splitlines()) == 9
    simulator = Simulator(pair, 1)
    policies = [read_policy(f, simulator.action_space, pair.bs_count) for f in folders]
    costs = [play(pair, policy, np.arange(8))["cost"].mean() for policy in policies]
    assert costs[0] != costs[1]


def test_a_policy_for_another_action_space_is_refused(pair, tmp_path):
    training = Training(pair, TINY, 1, None)
    training.step()
    training.save_policy(tmp_path / "policy")
    space = action_space(pair)
    with pytest.raises(UserError, match="step_grid"):
        read_policy(tmp_path / "policy", replace(space, step_grid=(1, 2)), pair.bs_count)
    more_bss = read_policy(tmp_path / "policy", space, 7)
    assert len(more_bss.weights["prices"]) == 7
    (tmp_path / "policy" / "actor.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot be read"):
        read_policy(tmp_path / "policy", space, pair.bs_count)


def test_a_policy_folder_with_old_names_of_hyperparameters_loads(pair, tmp_path):
    training = Training(pair, TINY, 1, None)
    training.step()
    training.save_policy(tmp_path)
    about = json.loads((tmp_path / "policy.json").read_text())
    assert about["config"].pop("init_from_rule") is True
    about["config"] |= {"own_prices": False, "sharpness": about["config"].pop("deploy_inverse_temperature")}
    simulator = Simulator(pair, 8)
    simulator.reset(np.arange(8))
    draws = np.linspace(0.1, 0.9, 8)
    new = read_policy(tmp_path, simulator.action_space, pair.bs_count).choose(simulator.observations, draws)
    (tmp_path / "policy.json").write_text(json.dumps(about))
    np.testing.assert_array_equal(
        read_policy(tmp_path, simulator.action_space, pair.bs_count).choose(simulator.observations, draws), new
    )


@pytest.mark.parametrize("copies", [1, 4])
def test_mappo_unlearns_a_bad_start(pair, copies):
    """The actor starts with a price on the own device and none on the BSs, so it sends too many tasks to BSs."""
    numbers = tunable_parameters(PRICED_GREEDY, pair.bs_count)
    bad = np.array([0.3 if n.name == "price_own" else n.start if n.name.startswith("log_") else 0.0 for n in numbers])
    config = replace(TINY, decisions=30 * 64 * 64, copies=copies, groups=64 // copies, length=64, learning_rate=1e-2)
    training = Training(pair, config, 1, bad)
    before = validate(pair, training.actor)
    while training.share < 1.0:
        training.step()
    after = validate(pair, training.actor)
    assert after < 0.9 * before, (before, after)
