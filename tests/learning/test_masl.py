"""MASL: reward-inaction against a plain loop, contexts, the policy in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from edgebrush.errors import UserError
from edgebrush.learning.algorithms.masl import Learner, MaslConfig, Strategies, Training, fit_bins, update
from edgebrush.learning.rollout import Rollout, act
from edgebrush.policies.automata import context_of, features
from edgebrush.policies.folder import read_policy
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.simulator import Simulator
from tests.support import toys

TINY = MaslConfig(decisions=512, copies=2, groups=4, length=16, bins=2)


@pytest.fixture(scope="module")
def pair():
    return load_scenario("pair")


@pytest.fixture(scope="module")
def training(pair):
    training = Training(pair, TINY, 1, None)
    training.step()
    return training


def test_an_update_equals_reward_inaction_play_by_play():
    """One player, one play in each of two copies: the vector of the formula, averaged over the order of the plays."""
    world = toys.MatrixGame(None, 2)
    observations = world.observe(np.zeros(2, np.int64))[None]
    start = np.array([0.2, 0.3, 0.5], np.float32)
    actor = Strategies(
        jnp.asarray(start.reshape(1, 1, 3, 1)), jnp.full((4, 1), jnp.inf), jnp.zeros(4, jnp.int32), world.layout
    )
    rewards = np.array([[1.0, -1.0]], np.float32)  # of choices 0 and 2
    rollout = Rollout(
        jnp.asarray(observations),
        jnp.zeros((2, 2, 1)),
        jnp.array([[0, 2]]),
        jnp.zeros((1, 2)),
        jnp.asarray(rewards),
        jnp.zeros((1, 2)),
    )
    config = MaslConfig(copies=2, groups=1, length=1, width=2.0)
    found, _ = update(config, Learner(actor, jnp.ones(()), jnp.zeros((), jnp.int32)), rollout, jnp.float32(0.01))
    vectors = []
    for order in ([0, 2], [2, 0]):
        p = start.astype(float)
        for played in order:
            utility = 0.5 + {0: 1.0, 2: -1.0}[played] / 4.0  # the returns' deviation is 1
            p = p + 0.01 * utility * (np.eye(3)[played] - p)
        vectors.append(p)
    np.testing.assert_allclose(found.actor.strategies.reshape(-1), np.mean(vectors, axis=0), atol=2e-5)
    assert found.actor.strategies.reshape(-1)[0] > start[0]


def test_bins_are_distinct_values_or_have_equally_many_samples():
    rng = np.random.default_rng(0)
    found = np.stack([rng.choice([0.1, 0.7, 4.0], 900), rng.exponential(size=900), np.full(900, 3.0)], axis=1)
    edges, strides, contexts = fit_bins(found, 4)
    assert contexts == 3 * 4 * 1
    counts = np.bincount(context_of(edges, strides, found), minlength=contexts)
    assert (counts > 40).all() and counts.sum() == 900
    kinds = [len(np.unique(found[context_of(edges, strides, found) % 3 == kind, 0])) for kind in range(3)]
    assert kinds == [1, 1, 1]


def test_strategies_start_as_the_rules_mean_choice_and_remain_probabilities(pair, training):
    strategies = np.asarray(training.learner.actor.strategies)
    np.testing.assert_allclose(strategies.sum(axis=(1, 2, 3)), 1.0, rtol=1e-5)
    assert (strategies >= 0.0).all()
    assert strategies.shape[1:] == (pair.bs_count + 1, len(pair.decision.step_grid), pair.decision.classes)
    assert len(np.unique(strategies.reshape(len(strategies), -1), axis=0)) > 3  # contexts differ


def test_the_policy_folder_decides_in_numpy_as_the_learner_in_jax(pair, training, tmp_path):
    training.save_policy(tmp_path / "policy")
    simulator = Simulator(pair, 32)
    simulator.reset(np.arange(32))
    policy = read_policy(tmp_path / "policy", simulator.action_space, pair.bs_count)
    rng, same = np.random.default_rng(0), 0
    for _ in range(20):
        draws = rng.random(32).astype(np.float32)
        choices = policy.choose(simulator.observations, draws)
        same += (choices == np.asarray(act(training.deployed, simulator.observations, draws)[0])).sum()
        slots = choices // simulator.action_space.per_slot
        _, candidates, _ = simulator.layout.split(simulator.observations)
        assert (candidates[np.arange(32), slots, 0] == 1.0)[simulator.alive].all()
        simulator.step(choices)
    assert same >= 0.99 * 20 * 32
    with pytest.raises(UserError, match="strategies are for"):
        read_policy(tmp_path / "policy", simulator.action_space, 7)


def test_a_place_that_is_not_present_is_the_most_loaded(pair):
    simulator = Simulator(pair, 4)
    simulator.reset(np.arange(4))
    observations = simulator.observations.copy()
    _, candidates, _ = simulator.layout.split(observations)
    number = int(candidates[0, 1, 1])
    before = features(simulator.layout, observations, pair.bs_count + 1, np)[0, 3 + number]
    candidates[0, 1, 0] = 0.0  # not present
    after = features(simulator.layout, observations, pair.bs_count + 1, np)[0, 3 + number]
    assert before < 100.0 < after
