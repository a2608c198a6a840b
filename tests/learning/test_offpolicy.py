"""The off-policy learners: parts against plain loops, games with known values, deployed policies in NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edgebrush.decision.action_space import ActionSpace
from edgebrush.learning.algorithms import d2sac, d3qn, qmix, vdn
from edgebrush.learning.algorithms.maddpg import sample_one_hot
from edgebrush.learning.networks import MlpActor, PricedActor
from edgebrush.learning.offpolicy import EpsilonGreedy, InitContext, join_decisions, update
from edgebrush.learning.registry import ALGORITHMS, configure
from edgebrush.learning.replay_buffer import Sequences
from edgebrush.learning.returns import lambda_returns
from edgebrush.learning.rollout import act
from edgebrush.policies.diffusion import STEPS, noise_from_draws
from edgebrush.policies.folder import read_policy
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.simulator import Simulator
from tests.support.toys import FAR_S, MatrixGame, TwoStates

TINY = {
    "copies": 2,
    "groups": 4,
    "length": 16,
    "horizon": 8,
    "gradient_steps": 2,
    "actor_hidden": 8,
    "critic_hidden": 8,
}


def test_lambda_returns_are_the_plain_recursion():
    config = d3qn.D3qnConfig(discount_per_s=0.1, trace_decay_per_s=0.3)
    rng = np.random.default_rng(1)
    rewards, values, gaps = rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 7, 3)), rng.exponential(size=(2, 7, 3))
    expected = np.zeros((2, 7, 3))
    expected[:, 6] = values[:, 6]
    for t in reversed(range(6)):
        gamma, trace = np.exp(-0.1 * gaps[:, t]), np.exp(-0.3 * gaps[:, t])
        expected[:, t] = rewards[:, t] + gamma * ((1 - trace) * values[:, t + 1] + trace * expected[:, t + 1])
    found = lambda_returns(config, *(jnp.asarray(x, jnp.float32) for x in (rewards, gaps, values)), horizon=3)
    np.testing.assert_allclose(found, expected[:, :4], rtol=2e-5, atol=1e-5)


def test_a_joint_decision_has_its_deciders_in_order_and_rewards_discounted_to_the_first():
    config = qmix.QmixConfig(length=4, horizon=2, window=2, discount_per_s=0.5)
    number = np.arange(4.0)[None, :, None] + 10.0 * np.arange(3)  # decision and copy
    joined = join_decisions(
        config,
        Sequences(
            *(
                jnp.asarray(x)
                for x in (number[..., None], number[..., None], number.astype(int), number, np.full((1, 4, 3), 2.0))
            )
        ),
    )
    np.testing.assert_array_equal(joined.choices[0, 1], [[2, 3], [12, 13], [22, 23]])
    np.testing.assert_array_equal(joined.observations[..., 0], joined.choices)
    np.testing.assert_array_equal(joined.states[..., 0], joined.choices[..., 0])
    np.testing.assert_allclose(joined.rewards[0, 1], [2 + 3 / np.e, 12 + 13 / np.e, 22 + 23 / np.e], rtol=1e-6)
    np.testing.assert_array_equal(joined.gaps_s, 4.0)


def fixed_logits(kind, *logits):
    """An actor of this kind with these logits for every observation."""

    class Fixed(kind):
        def __call__(self, observations, draws=None):
            return jnp.array([logits])

    sizes = {"bs_count": 1} if kind is MlpActor else {}
    return Fixed({}, jnp.ones(1), None, **sizes)


def test_advantages_have_a_mean_of_0_under_the_policy():
    advantages = fixed_logits(PricedActor, 1.0, 3.0, -1e9).advantages(None)
    assert float((jax.nn.softmax(jnp.array([1.0, 3.0])) * advantages[0, :2]).sum()) == pytest.approx(0.0, abs=1e-5)
    assert float(advantages[0, 1] - advantages[0, 0]) == pytest.approx(2.0, abs=1e-5)


def test_advantages_as_published_have_a_mean_of_0_over_the_present_choices():
    advantages = fixed_logits(MlpActor, 1.0, 3.0, -1e9).advantages(None)
    np.testing.assert_allclose(advantages[0, :2], [-1.0, 1.0], atol=1e-5)


def test_greedy_exploration_tries_every_present_choice():
    explore = EpsilonGreedy(lambda observations, draws: jnp.array([[1.0, 3.0, 2.0, -1e9]]), jnp.float32(0.3))
    probabilities = jax.nn.softmax(explore(jnp.zeros((1, 1)), jnp.zeros(1)))
    np.testing.assert_allclose(probabilities, [[0.1, 0.8, 0.1, 0.0]], atol=1e-5)


def test_the_gumbel_softmax_draws_from_the_softmax_and_has_a_gradient():
    @jax.jit
    def mean(logits):
        drawn = sample_one_hot(jax.random.key(0), jnp.tile(logits, (20_000, 1)), 1.0)
        return drawn.mean(0), jnp.abs(drawn.sum(-1) - 1.0).max()

    logits = jnp.log(jnp.array([0.5, 0.3, 0.2]))
    shares, off = mean(logits)
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.015)
    assert off < 1e-5
    gradient = jax.jit(jax.grad(lambda logits: mean(logits)[0][0]))(logits)
    assert gradient[0] > 0.05 and gradient[1] < 0.0


def init_context(config, toy, length=1):
    """A toy's first rollout and sizes, as a new learner needs them."""
    states = np.zeros((length, toy.episodes, toy.state_size), np.float32)
    observations = np.tile(toy.observations, (length, 1, 1))
    batch = Sequences(observations, states, np.zeros(states.shape[:2], int), None, None)
    return InitContext(config, batch, toy.layout, 2, None)


def fit(training, sequences, updates, rate=0.02):
    for n in range(updates):
        keys = jax.random.split(jax.random.key(n), 32)
        many = Sequences(*(jnp.tile(x, (32, *[1] * x.ndim)) for x in sequences))
        step = jnp.float32(rate * (1.0 - n / updates))
        training.learner, stats = update(training.config, type(training), training.learner, many, keys, step)
    return stats


def fresh(module, config, context):
    """A training without a world: its learner before the first update."""
    training = object.__new__(module.Training)
    training.config = config
    training.learner = training.new_learner(context, np.random.default_rng(0))
    return training


def fit_and_game(module, make_config):
    """Values and best choices of QMIX or VDN, fitted to a game that pays only if both players choose 1."""
    toy = MatrixGame(None, 2)
    toy.action_space = ActionSpace(1, (1, 2), 1)
    toy.layout = type(toy.layout)(toy.action_space)
    observed = toy.observe(np.array([0, 1]))
    choices = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    # one group of 4 copies; 2 windows of 2 deciders: the second one is only the bootstrap
    rewards = np.zeros((1, 4, 4), np.float32)
    rewards[0, 1] = choices.prod(1)
    gaps = np.zeros((1, 4, 4), np.float32)
    gaps[0, [1, 3]] = FAR_S
    sequences = Sequences(
        jnp.asarray(np.tile(np.tile(observed, (2, 1))[None, :, None], (1, 1, 4, 1))),
        jnp.ones((1, 4, 4, 4)),
        jnp.asarray(np.tile(choices.T, (2, 1))[None]),
        jnp.asarray(rewards),
        jnp.asarray(gaps),
    )
    config = make_config(
        copies=1,
        length=2,
        horizon=2,
        window=2,
        actor_hidden=16,
        critic_hidden=16,
        value_updates=0,
        value_speed=1.0,
        max_grad_norm=10.0,
    )
    toy.observations = observed
    training = fresh(module, config, init_context(config, toy))
    fit(training, sequences, 25)
    joint = module.Training.online(training.learner.networks, training.learner.logit_cost)
    q = joint.q(jnp.asarray(observed))
    utilities = jnp.stack([q[0, choices[:, 0]], q[1, choices[:, 1]]], -1)
    return np.asarray(joint(utilities, jnp.ones((4, 4)))), np.asarray(q.argmax(-1))


def test_qmix_represents_the_monotone_game_that_vdn_cannot():
    exact, best = fit_and_game(qmix, qmix.QmixConfig)
    np.testing.assert_allclose(exact, [0, 0, 0, 1], atol=0.08)
    assert best.tolist() == [1, 1]
    sums, best = fit_and_game(vdn, vdn.VdnConfig)
    np.testing.assert_allclose(sums, [-0.25, 0.25, 0.25, 0.75], atol=0.08)  # the least-squares fit of a sum
    assert best.tolist() == [1, 1]


def test_d3qn_learns_the_values_that_value_iteration_finds():
    world, gamma = TwoStates(None, 2), np.exp(-TwoStates.DISCOUNT_PER_S * 4.0)
    expected = np.zeros((2, 2))
    for _ in range(500):
        value = expected.max(1)
        expected = world.REWARD + gamma * (world.TO_RICH * value[1] + (1 - world.TO_RICH) * value[0])
    rng = np.random.default_rng(0)
    state = np.zeros((2, 65, 16), int)
    choices = rng.integers(2, size=state.shape)
    for t in range(64):
        state[:, t + 1] = rng.random(state[:, t].shape) < world.TO_RICH[state[:, t], choices[:, t]]
    sequences = Sequences(
        jnp.asarray(world.observe(state.reshape(-1)).reshape(*state.shape, -1)),
        jnp.zeros((*state.shape, 2)),
        jnp.asarray(choices),
        jnp.asarray(world.REWARD[state, choices], jnp.float32),
        jnp.full(state.shape, 4.0),
    )
    config = d3qn.D3qnConfig(
        copies=1,
        length=64,
        horizon=1,
        trace_decay_per_s=1e9,
        discount_per_s=TwoStates.DISCOUNT_PER_S,
        actor_hidden=16,
        critic_hidden=16,
        value_updates=0,
        value_speed=1.0,
        max_grad_norm=100.0,
        target_share=0.1,
    )
    world.observations = world.observe(np.array([0, 1]))
    training = fresh(d3qn, config, init_context(config, world))
    fit(training, sequences, 30)
    q = d3qn.Training.online(training.learner.networks, training.learner.logit_cost).q
    np.testing.assert_allclose(q(jnp.asarray(world.observations)), expected, rtol=0.06)


def test_d2sac_returns_earn_the_bonus_of_every_later_decision(monkeypatch):
    """Two choices without reward or bootstrap: a decision's return is the discounted bonus of the ones after it."""
    toy, gap_s, length = TwoStates(None, 2), 2.0, 3
    config = d2sac.D2sacConfig(copies=1, length=length, horizon=2, alpha=0.5, discount_per_s=0.1, trace_decay_per_s=0.0)
    shape = (1, length + 2, 1)
    choices = np.array([0, 1, 1, 0, 1]).reshape(shape)
    sequences = Sequences(
        jnp.asarray(np.tile(toy.observe(np.array([0])), (*shape, 1))),
        jnp.zeros((*shape, toy.state_size)),
        jnp.asarray(choices),
        jnp.zeros(shape),
        jnp.full(shape, gap_s),
    )
    toy.observations = toy.observe(np.array([0, 1]))
    learner = fresh(d2sac, config, init_context(config, toy)).learner._replace(logit_cost=jnp.float32(2.0))
    log_probs = jnp.log(jnp.array([0.25, 0.75]))
    monkeypatch.setattr(
        d2sac, "log_policy", lambda actor, observations, key: jnp.tile(log_probs, (len(observations), 1))
    )
    soft_value = float(-(0.25 * log_probs[0] + 0.75 * log_probs[1]))  # of a policy whose Q is 0, in alpha x logit_cost
    learner = learner._replace(target=lambda observations, states: (jnp.zeros((len(observations), 2)),) * 2)
    seen = []
    monkeypatch.setattr(d2sac, "value_loss", lambda config, values, returns: (seen.append(returns), (0.0, {}))[1])
    d2sac.critic_loss(learner.networks, learner, sequences, jax.random.key(0), config)
    gamma, bonus = np.exp(-0.1 * gap_s), -np.asarray(log_probs)[choices.reshape(-1)]
    expected, later = np.zeros(5), soft_value  # the last decision is only the bootstrap
    for t in reversed(range(4)):
        expected[t] = gamma * later
        later = bonus[t] + expected[t]
    np.testing.assert_allclose(np.asarray(seen[0]).reshape(-1), expected[:length], rtol=1e-5)


def test_sharpen_multiplies_the_logits():
    pair = load_scenario("pair")
    simulator = Simulator(pair, 8)
    simulator.reset(np.arange(8))
    training = ALGORITHMS["d3qn+common"].training(
        pair, configure("d3qn+common", TINY, seconds=None, decisions=1), 1, None
    )
    actor = eqx.tree_at(lambda actor: actor.weights["w_out"], training.actor, replace_fn=lambda w: w + 0.1)
    sharp = actor.sharpened(jnp.float32(3.0))(simulator.observations)
    np.testing.assert_allclose(sharp, np.maximum(3.0 * actor(simulator.observations), -1e9), rtol=1e-3, atol=1e-3)


def test_the_noise_of_a_decision_is_standard_normal_and_independent_of_others():
    draws = np.random.default_rng(0).random(2000)
    noise = noise_from_draws(draws, 8, np)
    assert noise.shape == (2000, STEPS, 8)
    assert abs(noise.mean()) < 0.02 and noise.std() == pytest.approx(1.0, abs=0.02)
    apart = np.corrcoef(noise.reshape(2000, -1).T) - np.eye(STEPS * 8)
    assert np.abs(apart).max() < 0.12
    np.testing.assert_array_equal(noise_from_draws(draws[5:6], 8, np)[0], noise[5])
    np.testing.assert_allclose(noise_from_draws(jnp.asarray(draws, jnp.float32), 8, jnp), noise, atol=2e-4)


@pytest.mark.parametrize(("name", "field"), [("maddpg", "entropy"), ("d2sac", "alpha"), ("maddpg+common", "entropy")])
def test_the_deployed_policy_is_the_softmax_of_q_over_the_temperature(name, field):
    """Entropy-regularised actors are the softmax of Q over ``field`` × ``logit_cost``."""
    pair = load_scenario("pair")
    config = configure(name, {**TINY, "temperature": 0.02, field: 0.3}, seconds=None, decisions=128)
    training = ALGORITHMS[name].training(pair, config, 1, None)
    observations, draws = training.collector.simulator.observations, np.full(8, 0.5, np.float32)
    factor = 0.3 * float(training.learner.logit_cost) / 0.02
    logits, deployed = training.actor(observations, draws), training.deployed(observations, draws)
    present = np.asarray(logits) > -1e8
    np.testing.assert_allclose(
        np.asarray(deployed)[present], factor * np.asarray(logits)[present], rtol=1e-3, atol=1e-3 * factor
    )


@pytest.mark.parametrize("name", ["qmix+common", "d2sac+common", "qmix", "d2sac"])  # each kind of network
def test_a_policy_decides_in_numpy_as_in_jax(name, tmp_path):
    pair = load_scenario("pair")
    config = configure(name, {**TINY, "temperature": 0.02}, seconds=None, decisions=128)
    training = ALGORITHMS[name].training(pair, config, 1, None)
    rng = np.random.default_rng(0)
    training.learner = jax.tree.map(  # any weights, as after training
        lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(np.float32) if x.ndim == 2 else x, training.learner
    )
    training.rows.append({"decisions": 128, "validation_cost": training.validate()})
    training.save_policy(tmp_path)
    simulator = Simulator(pair, 64)
    simulator.reset(np.arange(64))
    policy = read_policy(tmp_path, simulator.action_space, pair.bs_count)
    deployed, same = training.deployed, 0
    for _ in range(10):
        draws = rng.random(64).astype(np.float32)
        choices = np.asarray(act(deployed, simulator.observations, draws)[0])
        same += (policy.choose(simulator.observations, draws) == choices).sum()
        simulator.step(choices)
    assert same >= 0.99 * 10 * 64  # float32 rounding may move a draw across a boundary
