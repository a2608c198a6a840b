"""MADDPG (Lowe et al. 2017) for discrete choices: Gumbel-softmax actors, a centralised critic of joint decisions.

A joint decision is a window of successive deciders, see ``offpolicy.join_decisions``. The critic is the sum of two
parts: for each choice, an advantage of the actor's own form, so that it starts as minus the social costs; and a network
over the global state and a summary of all choices. It is linear in the choices' probabilities, so the straight-through
Gumbel-softmax (Jang et al. 2017) has gradients. The actors' gradient takes all deciders' choices from their present
policies instead of the replay buffer: the centralised policy gradient, with which Peng et al. 2021 (FACMAC) found
better coordination. Current implementations of discrete MADDPG have an entropy bonus; here it keeps the actor the
softmax of Q over ``logit_cost``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import PositiveFloat

from edgebrush.decision.observation import ObservationLayout
from edgebrush.policies.actor import FORBIDDEN
from edgebrush.policies.folder import MLP

from ..networks import Actor, Critic
from ..offpolicy import (
    InitContext,
    JointConfig,
    OffPolicyTraining,
    actor_critic_step,
    flatten_batch,
    join_decisions,
    learning_rates,
    scan_steps,
    split_windows,
    value_loss,
)
from ..optimiser import Stats, TrainState, make_optimiser, new_train_state, polyak_update
from ..replay_buffer import Sequences
from ..returns import lambda_returns
from ..rollout import Array


@dataclass(frozen=True)
class MaddpgConfig(JointConfig):
    """Hyperparameters; see ``JointConfig`` for the rest."""

    entropy: PositiveFloat = 1.0  # weight of the entropy bonus, in multiples of ``logit_cost``
    relaxation: PositiveFloat = 1.0  # temperature of the Gumbel-softmax


class JointCritic(eqx.Module):
    """Value ``(B,)`` of a joint decision: observations ``(B, W, O)``, one-hot choices ``(B, W, C)``, states.

    As published, it has no ``advantage``: one network of all that it gets.
    """

    advantage: Actor | None
    value: Critic  # of the state and the summary of all choices
    logit_cost: jax.Array
    layout: ObservationLayout = eqx.field(static=True)

    def __call__(self, observations: jax.Array, choices: jax.Array, states: jax.Array) -> jax.Array:
        value = self.value(critic_inputs(self.layout, observations, choices, states, self.advantage is None))
        if self.advantage is None:
            return value
        logits = self.advantage(flatten_batch(observations))
        mean = (jax.nn.softmax(logits) * logits).sum(-1, keepdims=True)
        gain = jnp.where(logits > 0.5 * FORBIDDEN, logits - mean, 0.0).reshape(choices.shape)
        return jax.lax.stop_gradient(self.logit_cost) * (choices * gain).sum((-2, -1)) + value


def critic_inputs(
    layout: ObservationLayout, observations: Array, choices: Array, states: Array, published: bool
) -> jax.Array:
    """The value network's inputs ``(B, n)``, see ``JointCritic``; as published, every observation and every choice."""
    if not published:
        return jnp.concatenate([states, summarise(layout, observations, choices)], -1)
    seen = observations[..., : layout.cost.start]
    return jnp.concatenate([x.reshape(len(states), -1) for x in (states, seen, choices)], -1)


def summarise(layout: ObservationLayout, observations: Array, choices: Array) -> jax.Array:
    """The value network's inputs ``(B, n)`` from deciders ``(B, W, O)`` and their choices ``(B, W, C)``."""
    task, candidates, cost = layout.split(observations)
    chosen = choices.reshape(cost.shape)
    slots = chosen.sum((-2, -1))
    parts = [
        task,
        (slots[..., None] * candidates).sum(-2),
        (chosen * cost).sum((-3, -2, -1))[..., None],
        slots,
        chosen.sum((-3, -1)),
        chosen.sum((-3, -2)),
    ]
    summary = jnp.concatenate(parts, -1)
    return summary.reshape(len(summary), -1)


def sample_one_hot(key: jax.Array, logits: jax.Array, relaxation: float) -> jax.Array:
    """One-hot samples from the softmax of the logits; their gradient is the Gumbel-softmax's."""
    soft = jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape)) / relaxation)
    hard = jax.nn.one_hot(soft.argmax(-1), logits.shape[-1])
    return hard + soft - jax.lax.stop_gradient(soft)


class Learner(NamedTuple):
    """Everything that learns, as one pytree."""

    actor: TrainState[Actor]
    advantage: TrainState[Actor | None]
    value: TrainState[Critic]
    target_actor: Actor
    target_critic: JointCritic
    logit_cost: jax.Array
    updates: jax.Array

    @property
    def critic(self) -> JointCritic:
        layout = self.actor.network.layout
        return JointCritic(self.advantage.network, self.value.network, self.logit_cost, layout)


class Training(OffPolicyTraining):
    """The training of one seed of MADDPG."""

    algorithm = "maddpg"
    config: MaddpgConfig
    learner: Learner

    def new_learner(self, context: InitContext, rng: np.random.Generator) -> Learner:
        config, optimiser = self.config, make_optimiser(self.config)
        actor = context.new_actor(rng)
        advantage = None if config.network == MLP else context.new_actor(rng)
        value = context.new_value(rng, np.asarray(first_critic_inputs(context, config.window)))
        critic = JointCritic(advantage, value, context.logit_cost(actor), context.layout)
        return Learner(
            new_train_state(optimiser, actor),
            new_train_state(optimiser, advantage),
            new_train_state(optimiser, value),
            jax.tree.map(jnp.copy, actor),
            jax.tree.map(jnp.copy, critic),
            critic.logit_cost,
            jnp.zeros((), jnp.int32),
        )

    def update(self, sequences: Sequences, keys: jax.Array, learning_rate: jax.Array) -> tuple[Learner, Stats]:
        return update(self.config, self.learner, sequences, keys, learning_rate)


def first_critic_inputs(context: InitContext, window: int) -> jax.Array:
    """The value network's inputs for the joint decisions of the first rollout, ``(B, n)``."""
    rollout, layout = context.rollout, context.layout
    length = len(rollout.choices) // window * window
    observations = flatten_batch(split_windows(rollout.observations[None, :length], window), 2)
    choices = flatten_batch(split_windows(rollout.choices[None, :length], window))
    one_hot = np.eye(layout.action_space.count, dtype=np.float32)[choices]
    states = flatten_batch(rollout.states[:length:window])
    return critic_inputs(layout, observations, one_hot, states, context.config.network == MLP)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: MaddpgConfig, learner: Learner, sequences: Sequences, keys: jax.Array, learning_rate: jax.Array
) -> tuple[Learner, Stats]:
    """A gradient step on each of ``sequences (steps, G, T, C, ...)``."""
    rates = learning_rates(config, learner.updates, learning_rate)

    def step(learner: Learner, batch: tuple[Sequences, jax.Array]) -> tuple[Learner, Stats]:
        learner, stats = actor_critic_step(config, learner, *batch, rates, critic_loss, actor_loss)
        target_actor = polyak_update(learner.target_actor, learner.actor.network, config.target_share)
        target_critic = polyak_update(learner.target_critic, learner.critic, config.target_share)
        return learner._replace(target_actor=target_actor, target_critic=target_critic), stats

    return scan_steps(step, learner, (sequences, keys))


def critic_loss(
    networks: tuple[Actor | None, Critic], learner: Learner, sequences: Sequences, key: jax.Array, config: MaddpgConfig
) -> tuple[jax.Array, Stats]:
    """Squared error of the joint value against returns that bootstrap with the target actors' choices."""
    joined = join_decisions(config, sequences)
    observations, shape = flatten_batch(joined.observations, 2), joined.choices.shape  # (G, n, C, W)
    logits = learner.target_actor(flatten_batch(joined.observations))
    targets = sample_one_hot(key, logits, config.relaxation).reshape(*observations.shape[:2], -1)
    bootstrap = learner.target_critic(observations, targets, flatten_batch(joined.states)).reshape(shape[:-1])
    horizon = config.horizon // config.window
    returns = lambda_returns(config, joined.rewards, joined.gaps_s, bootstrap, horizon)
    learnt = jax.tree.map(lambda x: x[:, : shape[1] - horizon], joined)
    chosen = jax.nn.one_hot(flatten_batch(learnt.choices), logits.shape[-1])
    critic = JointCritic(*networks, learner.logit_cost, learner.actor.network.layout)
    values = critic(flatten_batch(learnt.observations, 2), chosen, flatten_batch(learnt.states))
    return value_loss(config, values.reshape(returns.shape), returns)


def actor_loss(
    actor: Actor, learner: Learner, sequences: Sequences, key: jax.Array, config: MaddpgConfig
) -> tuple[jax.Array, Stats]:
    """Minus the joint value of the actors' present choices, minus the entropy bonus."""
    joined = join_decisions(config, sequences)
    observations = flatten_batch(joined.observations, 2)
    logits = actor(flatten_batch(joined.observations))
    log_probs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    choices = sample_one_hot(key, logits, config.relaxation).reshape(*observations.shape[:2], -1)
    value = learner.critic(observations, choices, flatten_batch(joined.states)).mean()
    return -value - config.window * config.entropy * learner.logit_cost * entropy, {"entropy": entropy}
