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
    Learner,
    Networks,
    OffPolicyTraining,
    flatten_batch,
    join_decisions,
    split_windows,
    value_loss,
)
from ..optimiser import Stats
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

    As published: one network of the state, every observation and every choice.
    """

    value: Critic
    layout: ObservationLayout = eqx.field(static=True)

    def __call__(self, observations: jax.Array, choices: jax.Array, states: jax.Array) -> jax.Array:
        return self.value(self.inputs(self.layout, observations, choices, states))

    @staticmethod
    def inputs(layout: ObservationLayout, observations: Array, choices: Array, states: Array) -> jax.Array:
        """The value network's inputs ``(B, n)``."""
        seen = observations[..., : layout.cost.start]
        return jnp.concatenate([x.reshape(len(states), -1) for x in (states, seen, choices)], -1)


class AdvantageCritic(JointCritic):
    """The joint value as an advantage of every choice, plus a value of the state and a summary of all choices."""

    advantage: Actor
    logit_cost: jax.Array

    def __call__(self, observations: jax.Array, choices: jax.Array, states: jax.Array) -> jax.Array:
        flat = flatten_batch(observations)
        present = self.advantage(flat) > 0.5 * FORBIDDEN
        gain = jnp.where(present, self.advantage.advantages(flat), 0.0).reshape(choices.shape)
        value = super().__call__(observations, choices, states)
        return jax.lax.stop_gradient(self.logit_cost) * (choices * gain).sum((-2, -1)) + value

    @staticmethod
    def inputs(layout: ObservationLayout, observations: Array, choices: Array, states: Array) -> jax.Array:
        return jnp.concatenate([states, summarise(layout, observations, choices)], -1)


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


class Target(NamedTuple):
    """What the targets bootstrap from."""

    actor: Actor
    critic: JointCritic


def critic_loss(
    networks: Networks, learner: Learner, sequences: Sequences, key: jax.Array, config: MaddpgConfig
) -> tuple[jax.Array, Stats]:
    """Squared error of the joint value against returns that bootstrap with the target actors' choices."""
    joined = join_decisions(config, sequences)
    observations, shape = flatten_batch(joined.observations, 2), joined.choices.shape  # (G, n, C, W)
    logits = learner.target.actor(flatten_batch(joined.observations))
    targets = sample_one_hot(key, logits, config.relaxation).reshape(*observations.shape[:2], -1)
    bootstrap = learner.target.critic(observations, targets, flatten_batch(joined.states)).reshape(shape[:-1])
    horizon = config.horizon // config.window
    returns = lambda_returns(config, joined.rewards, joined.gaps_s, bootstrap, horizon)
    learnt = jax.tree.map(lambda x: x[:, : shape[1] - horizon], joined)
    chosen = jax.nn.one_hot(flatten_batch(learnt.choices), logits.shape[-1])
    critic = new_critic({**learner.networks, **networks}, learner.logit_cost)
    values = critic(flatten_batch(learnt.observations, 2), chosen, flatten_batch(learnt.states))
    return value_loss(config, values.reshape(returns.shape), returns)


def actor_loss(
    networks: Networks, learner: Learner, sequences: Sequences, key: jax.Array, config: MaddpgConfig
) -> tuple[jax.Array, Stats]:
    """Minus the joint value of the actors' present choices, minus the entropy bonus."""
    joined = join_decisions(config, sequences)
    observations = flatten_batch(joined.observations, 2)
    logits = networks["actor"](flatten_batch(joined.observations))
    log_probs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    choices = sample_one_hot(key, logits, config.relaxation).reshape(*observations.shape[:2], -1)
    critic = new_critic(learner.networks, learner.logit_cost)
    value = critic(observations, choices, flatten_batch(joined.states)).mean()
    return -value - config.window * config.entropy * learner.logit_cost * entropy, {"entropy": entropy}


def new_critic(networks: Networks, logit_cost: jax.Array) -> JointCritic:
    """The critic of these networks, in the form that they have."""
    layout = networks["actor"].layout
    if "advantage" not in networks:
        return JointCritic(networks["value"], layout)
    return AdvantageCritic(networks["value"], layout, networks["advantage"], logit_cost)


class Training(OffPolicyTraining):
    """The training of one seed of MADDPG."""

    algorithm = "maddpg"
    config: MaddpgConfig
    losses = ((("advantage", "value"), critic_loss), (("actor",), actor_loss))

    def new_networks(self, context: InitContext, rng: np.random.Generator) -> Networks:
        published = self.config.network == MLP
        networks = {"actor": context.new_actor(rng)}
        if not published:
            networks["advantage"] = context.new_actor(rng)
        inputs = first_inputs(JointCritic if published else AdvantageCritic, context, self.config.window)
        return {**networks, "value": context.new_value(rng, inputs)}

    @staticmethod
    def online(networks: Networks, logit_cost: jax.Array) -> Target:
        return Target(networks["actor"], new_critic(networks, logit_cost))

    @property
    def logit_temperature(self) -> float:
        """The entropy bonus makes the actor the softmax of Q over this many ``logit_cost``."""
        return self.config.entropy


def first_inputs(critic: type[JointCritic], context: InitContext, window: int) -> np.ndarray:
    """The value network's inputs for the joint decisions of the first rollout, ``(B, n)``."""
    rollout, layout = context.rollout, context.layout
    length = len(rollout.choices) // window * window
    observations = flatten_batch(split_windows(rollout.observations[None, :length], window), 2)
    choices = flatten_batch(split_windows(rollout.choices[None, :length], window))
    one_hot = np.eye(layout.action_space.count, dtype=np.float32)[choices]
    states = flatten_batch(rollout.states[:length:window])
    return np.asarray(critic.inputs(layout, observations, one_hot, states))
