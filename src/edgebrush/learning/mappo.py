"""MAPPO: a centralised critic, actors with shared weights that see only what their UE sees.

Yu et al. 2022's practices (value normalisation, orthogonal initialisation, clipping, one learning-rate schedule) on
the merged sequence of all UEs' decisions as a semi-Markov process: each gap has its own discount. With ``copies``
above 1, episodes come in groups that share arrivals, tasks and channels while their decisions are drawn apart; so
decision n is the same task at the same moment in every copy, and the group's mean is an input-driven baseline (Mao
et al. 2019) that takes the arrivals' own noise out of the advantage. The critic then learns what *differs* between
the copies: the baseline takes the rest. One seed is one single-threaded process; several seeds run side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from edgebrush.policies.actor import draw_choice, raw_inputs
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.simulator import Simulator

from .networks import Actor, Critic, input_scale, new_actor, new_critic


@dataclass(frozen=True)
class MappoConfig:
    """Hyperparameters; names as in Yu et al. 2022 where they have one."""

    updates: int = 120
    copies: int = 8  # episodes per group with common arrivals; 1 is plain MAPPO
    groups: int = 32
    length: int = 128  # decisions per episode and update
    epochs: int = 3
    minibatches: int = 16
    learning_rate: float = 1.5e-3  # falls linearly to 0
    clip: float = 0.2
    entropy: float = 0.0
    max_grad_norm: float = 0.5  # of actor and critic each: under one norm the actor starves the critic
    adam_eps: float = 1e-8
    discount_per_s: float = 0.01  # rho: gamma over a gap dt is exp(-rho dt)
    trace_decay_per_s: float = 0.02  # GAE's lambda over a gap dt is exp(-decay dt)
    critic_updates: int = 5  # at first the critic learns alone
    episode_s: float = 600.0  # mean life of a training episode before it starts anew
    actor_hidden: int = 32
    critic_hidden: int = 64
    normaliser_decay: float = 0.9
    own_prices: bool = False  # True: start from no prices instead of the tuned rule's


class Learner(NamedTuple):
    """All that learns, as one pytree."""

    actor: Actor
    critic: Critic
    actor_state: optax.OptState
    critic_state: optax.OptState
    mean: jax.Array  # of the value targets
    deviation: jax.Array
    updates: jax.Array


class Batch(NamedTuple):
    """One update's experience: ``T`` decisions of ``E`` episodes (groups x copies)."""

    observations: jax.Array  # (T, E, O)
    states: jax.Array  # (T + 1, E, Z)
    choices: jax.Array  # (T, E)
    log_probs: jax.Array  # (T, E)
    rewards: jax.Array  # (T, E)
    gaps_s: jax.Array  # (T, E)


def new_learner(scenario: Scenario, config: MappoConfig, simulator: Simulator, seed: int, numbers) -> Learner:
    """A learner before its first update; ``numbers``: the tuned priced greedy rule's, or None."""
    rng = np.random.default_rng(seed)
    grid = simulator.params.step_grid
    numbers = None if config.own_prices else numbers
    actor = new_actor(rng, simulator.layout, grid, config.actor_hidden, scenario.bs_count, numbers)
    critic = new_critic(rng, simulator.state_size, config.critic_hidden)
    optimiser = make_optimiser(config)
    return Learner(
        actor, critic, optimiser.init(eqx.filter(actor, eqx.is_array)), optimiser.init(eqx.filter(critic, eqx.is_array)),
        jnp.zeros(()), jnp.ones(()), jnp.zeros((), jnp.int32),
    )  # fmt: skip


def make_optimiser(config: MappoConfig) -> optax.GradientTransformation:
    steps = config.updates * config.epochs * config.minibatches
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(optax.linear_schedule(config.learning_rate, 0.0, steps), eps=config.adam_eps),
    )


@eqx.filter_jit
def act(actor: Actor, observations: jax.Array, draws: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Choices ``(E,)`` and their log-probabilities ``(E,)``."""
    scores = actor(observations)
    choices = draw_choice(scores, draws, jnp)
    return choices, log_prob_of(scores, choices)


def log_prob_of(scores: jax.Array, choices: jax.Array) -> jax.Array:
    return jnp.take_along_axis(jax.nn.log_softmax(scores), choices[:, None], axis=-1)[:, 0]


def gae(
    rewards: jax.Array, gaps_s: jax.Array, values: jax.Array, discount_per_s: float, trace_decay_per_s: float
) -> jax.Array:
    """Generalised advantages ``(T, E)`` (Schulman et al. 2016) with each gap's own discount and trace decay.

    ``values (T + 1, E)``: the last row is the bootstrap after the trace.
    """
    gammas = jnp.exp(-discount_per_s * gaps_s)
    lambdas = jnp.exp(-trace_decay_per_s * gaps_s)
    deltas = rewards + gammas * values[1:] - values[:-1]

    def backwards(advantage, row):
        delta, carry = row
        advantage = delta + carry * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(backwards, jnp.zeros_like(rewards[0]), (deltas, gammas * lambdas), reverse=True)
    return advantages


def less_group_mean(x: jax.Array, copies: int) -> jax.Array:
    """``x (..., E)`` less its mean over the copies of each group; the input-driven baseline (Mao et al. 2019)."""
    grouped = x.reshape(*x.shape[:-1], -1, copies)
    return (grouped - grouped.mean(-1, keepdims=True)).reshape(x.shape)


@partial(eqx.filter_jit, donate="all-except-first")
def update(config: MappoConfig, learner: Learner, batch: Batch, key: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
    """One whole update: advantages, then all epochs and minibatches."""
    length, episodes = batch.rewards.shape
    states = batch.states.reshape(-1, batch.states.shape[-1])
    values = learner.mean + learner.deviation * learner.critic(states).reshape(length + 1, episodes)
    advantages = gae(batch.rewards, batch.gaps_s, values, config.discount_per_s, config.trace_decay_per_s)
    targets = advantages + values[:-1]
    explained_variance = _explained_variance(values[:-1], targets, config.copies)
    if config.copies > 1:
        advantages = less_group_mean(advantages, config.copies)
        targets = less_group_mean(targets, config.copies)
    deviation_of_advantage = advantages.std()
    advantages = (advantages - advantages.mean()) / (deviation_of_advantage + 1e-8)
    learner = _normalise_values(learner, targets, config.normaliser_decay)
    targets = (targets - learner.mean) / learner.deviation

    rows = length * (episodes // config.copies)  # a row is one task in all copies of a group
    data = jax.tree.map(
        lambda x: x[:length].reshape(rows, config.copies, *x.shape[2:]),
        (batch.observations, batch.states, batch.choices, batch.log_probs, advantages, targets),
    )
    teach_actor = learner.updates >= config.critic_updates

    def minibatch(carry, index):
        actor, critic, actor_state, critic_state = carry
        observations, states, choices, log_probs, advantage, target = jax.tree.map(
            lambda x: x[index].reshape(-1, *x.shape[2:]), data
        )
        optimiser = make_optimiser(config)
        (_, stats), gradient = eqx.filter_value_and_grad(actor_loss, has_aux=True)(
            actor, observations, choices, log_probs, advantage, config
        )
        step, new_state = optimiser.update(gradient, actor_state)
        taught = eqx.apply_updates(actor, step)
        actor, actor_state = jax.tree.map(
            lambda new, old: jnp.where(teach_actor, new, old) if eqx.is_array(new) else new,
            (taught, new_state), (actor, actor_state),
        )  # fmt: skip
        loss, gradient = eqx.filter_value_and_grad(critic_loss)(critic, states, target, config.copies)
        step, critic_state = optimiser.update(gradient, critic_state)
        critic = eqx.apply_updates(critic, step)
        return (actor, critic, actor_state, critic_state), {**stats, "value_loss": loss}

    def epoch(carry, key):
        order = jax.random.permutation(key, rows).reshape(config.minibatches, -1)
        return jax.lax.scan(minibatch, carry, order)

    carry = (learner.actor, learner.critic, learner.actor_state, learner.critic_state)
    carry, stats = jax.lax.scan(epoch, carry, jax.random.split(key, config.epochs))
    stats = jax.tree.map(jnp.mean, stats)
    stats |= {"explained_variance": explained_variance, "advantage_deviation": deviation_of_advantage}
    return Learner(*carry, learner.mean, learner.deviation, learner.updates + 1), stats


def actor_loss(actor, observations, choices, old_log_probs, advantages, config):
    """PPO's clipped objective on the joint choice's probability, less the entropy bonus."""
    scores = actor(observations)
    log_probs = jax.nn.log_softmax(scores)
    ratio = jnp.exp(jnp.take_along_axis(log_probs, choices[:, None], axis=-1)[:, 0] - old_log_probs)
    clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    gain = jnp.minimum(ratio * advantages, clipped * advantages).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    stats = {
        "entropy": entropy,
        "kl": (ratio - 1.0 - jnp.log(ratio)).mean(),
        "clipped": (jnp.abs(ratio - 1.0) > config.clip).mean(),
    }
    return -gain - config.entropy * entropy, stats


def critic_loss(critic, states, targets, copies):
    """Mean square error; with copies, of what differs between them (the targets have no group mean already)."""
    values = critic(states)
    if copies > 1:
        values = less_group_mean(values, copies)
    return jnp.mean((values - targets) ** 2)


def _explained_variance(values, targets, copies):
    if copies > 1:
        values, targets = less_group_mean(values, copies), less_group_mean(targets, copies)
    return 1.0 - jnp.var(targets - values) / jnp.maximum(jnp.var(targets), 1e-12)


def _normalise_values(learner: Learner, targets: jax.Array, decay: float) -> Learner:
    """Follow the targets' mean and deviation; the critic's last layer moves along (PopArt, Hessel et al. 2019)."""
    keep = jnp.where(learner.updates == 0, 0.0, decay)
    mean = keep * learner.mean + (1.0 - keep) * targets.mean()
    deviation = keep * learner.deviation + (1.0 - keep) * jnp.maximum(targets.std(), 1e-3)
    w, b = learner.critic.w, learner.critic.b
    ratio = learner.deviation / deviation
    critic = eqx.tree_at(
        lambda critic: (critic.w[-1], critic.b[-1]), learner.critic,
        (w[-1] * ratio, (b[-1] * learner.deviation + learner.mean - mean) / deviation),
    )  # fmt: skip
    return learner._replace(critic=critic, mean=mean, deviation=deviation)


class Collector:
    """Plays groups of copies on and on, and writes down what was decided."""

    def __init__(self, scenario: Scenario, config: MappoConfig, seed: int):
        self.config = config
        self.simulator = Simulator(scenario, config.groups * config.copies, states=True, threads=1)
        self.rng = np.random.default_rng([seed, 1])
        shape = (config.length, self.simulator.episodes)
        self.observations = np.zeros((*shape, self.simulator.layout.size), np.float32)
        self.states = np.zeros((config.length + 1, shape[1], self.simulator.state_size), np.float32)
        self.choices = np.zeros(shape, np.int32)
        self.log_probs, self.rewards, self.gaps_s = (np.zeros(shape, np.float32) for _ in range(3))
        self.restart(np.ones(config.groups, bool))

    def restart(self, groups: np.ndarray) -> None:
        """Start the groups in the mask anew, each on arrivals of its own that all its copies share."""
        copies = self.config.copies
        seeds = TRAINING_SEEDS + self.rng.integers(10**9, size=self.config.groups)
        self.simulator.reset(np.repeat(seeds, copies), horizon_s=np.inf, which=np.repeat(groups, copies))

    def collect(self, actor: Actor) -> Batch:
        """``length`` decisions of every episode."""
        simulator = self.simulator
        for t in range(self.config.length):
            draws = self.rng.random(simulator.episodes, np.float32)
            choices, log_probs = act(actor, simulator.observations, draws)
            self.observations[t], self.states[t] = simulator.observations, simulator.states
            self.choices[t], self.log_probs[t] = choices, log_probs
            simulator.step(self.choices[t])
            self.rewards[t], self.gaps_s[t] = simulator.rewards, simulator.gaps_s
        self.states[-1] = simulator.states
        return Batch(
            self.observations, self.states, self.choices, self.log_probs, self.rewards, self.gaps_s
        )

    def restart_some(self) -> None:
        """End a few groups by chance, so that each lives ``episode_s`` on average."""
        lived_s = self.gaps_s.sum(0).mean()
        groups = self.rng.random(self.config.groups) < lived_s / self.config.episode_s
        if groups.any():
            self.restart(groups)


TRAINING_SEEDS = 2 * 10**9
