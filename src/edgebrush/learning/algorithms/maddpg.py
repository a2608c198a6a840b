"""MADDPG (Lowe et al. 2017) for discrete choices: Gumbel-softmax actors, a centralised critic of joint decisions.

A joint decision is a window of successive deciders (offpolicy.py says why). The critic adds what the actor's own form
says of each choice (so it starts as minus the social costs) to a network over the global state and a summary of every
choice, linear in the choice's probabilities, so that the straight-through Gumbel-softmax (Jang et al. 2017) has
gradients. All deciders' choices in the actors' gradient are their present policies', not the replay's: the
centralised policy gradient that Peng et al. 2021 (FACMAC) found to coordinate better. The entropy bonus is what the
present implementations of discrete MADDPG have, by which the actor stays the softmax of Q over ``unit``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import PositiveFloat, PositiveInt

from edgebrush.policies.actor import FORBIDDEN

from ..networks import Actor, Critic, sharpened, towards, unit_of
from ..offpolicy import (
    Look,
    OffPolicyConfig,
    OffPolicyTraining,
    check_window,
    lambda_returns,
    rows,
    squared_error,
    windows,
)
from ..onpolicy import descend, make_optimiser
from ..replay_buffer import Sequences


@dataclass(frozen=True)
class MaddpgConfig(OffPolicyConfig):
    """Hyperparameters; see ``OffPolicyConfig`` for the rest."""

    window: PositiveInt = 4  # deciders of a joint decision
    entropy: PositiveFloat = 1.0  # bonus, in units of ``unit``
    relaxation: PositiveFloat = 1.0  # temperature of the Gumbel-softmax whose gradient is used

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self)


class JointCritic(eqx.Module):
    """Value ``(B,)`` of a joint decision: observations ``(B, W, O)``, choices ``(B, W, C)`` one-hot, states."""

    advantage: Actor
    rest: Critic
    unit: jax.Array

    def __call__(self, observations: jax.Array, choices: jax.Array, states: jax.Array) -> jax.Array:
        logits = self.advantage(rows(observations))
        mean = (jax.nn.softmax(logits) * logits).sum(-1, keepdims=True)
        gain = jnp.where(logits > 0.5 * FORBIDDEN, logits - mean, 0.0).reshape(choices.shape)
        summed = jax.lax.stop_gradient(self.unit) * (choices * gain).sum((-2, -1))
        return summed + self.rest(jnp.concatenate([states, summary(self.advantage.layout, observations, choices)], -1))


def summary(layout, observations: jax.Array, choices: jax.Array) -> jax.Array:
    """What the critic's network is told of deciders ``(B, W, O)`` and their choices ``(B, W, C)``, as ``(B, n)``."""
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
    said = jnp.concatenate(parts, -1)
    return said.reshape(len(said), -1)


def one_hot_draw(key: jax.Array, logits: jax.Array, relaxation: float) -> jax.Array:
    """A choice drawn from the softmax of the logits, one-hot; its gradient is the Gumbel-softmax's."""
    soft = jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape)) / relaxation)
    hard = jax.nn.one_hot(soft.argmax(-1), logits.shape[-1])
    return hard + soft - jax.lax.stop_gradient(soft)


class Learner(NamedTuple):
    """All that learns, as one pytree."""

    actor: Actor
    critic: JointCritic
    target_actor: Actor
    target_critic: JointCritic
    actor_state: optax.OptState
    advantage_state: optax.OptState
    rest_state: optax.OptState
    updates: jax.Array


class Training(OffPolicyTraining):
    """One seed's training of MADDPG."""

    name = "maddpg"

    def new_learner(self, look: Look, rng: np.random.Generator) -> Learner:
        config = self.config
        actor, advantage = (look.new_actor(rng, config.actor_hidden) for _ in range(2))
        rest = look.new_value(rng, critic_inputs(config, look), config.critic_hidden)
        critic = JointCritic(advantage, rest, unit_of(actor))
        optimiser = make_optimiser(config)
        actor_state, advantage_state, rest_state = (
            optimiser.init(eqx.filter(x, eqx.is_array)) for x in (actor, critic.advantage, critic.rest)
        )
        return Learner(
            actor,
            critic,
            jax.tree.map(jnp.copy, actor),
            jax.tree.map(jnp.copy, critic),
            actor_state,
            advantage_state,
            rest_state,
            jnp.zeros((), jnp.int32),
        )

    def update(self, sequences: Sequences, keys: jax.Array, rate: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        return update(self.config, self.learner, sequences, keys, rate)

    @property
    def deployed(self) -> Actor:
        return sharpened(self.actor, self.learner.critic.unit / self.config.temperature)


def critic_inputs(config: MaddpgConfig, look: Look) -> np.ndarray:
    """What the critic's network would be told of the first look's joint decisions."""
    batch, window = look.batch, config.window
    length = batch.choices.shape[0] // window * window

    def cut(x):
        return np.moveaxis(x[:length].reshape(-1, window, *x.shape[1:]), 1, 2).reshape(-1, window, *x.shape[2:])

    choices = np.eye(look.layout.action_space.count, dtype=np.float32)[cut(batch.choices)]
    states = batch.states[:length:window].reshape(-1, batch.states.shape[-1])
    return np.concatenate([states, summary(look.layout, cut(batch.observations), choices)], -1)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: MaddpgConfig, learner: Learner, sequences: Sequences, keys: jax.Array, rate: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """A gradient step on each of ``sequences (steps, G, T, C, ...)``, at learning rate ``rate``."""
    optimiser = make_optimiser(config)
    actor_rate = rate * (learner.updates >= config.value_updates)

    def gradient_step(learner, row):
        sequences, key = row
        actor, critic = learner.actor, learner.critic
        (_, critic_stats), (of_advantage, of_rest) = eqx.filter_value_and_grad(critic_loss, has_aux=True)(
            (critic.advantage, critic.rest), critic.unit, learner, sequences, key, config
        )
        (_, actor_stats), of_actor = eqx.filter_value_and_grad(actor_loss, has_aux=True)(
            actor, critic, sequences, jax.random.fold_in(key, 1), config
        )
        step, actor_state = optimiser.update(of_actor, learner.actor_state)
        actor = descend(actor, step, actor_rate)
        step, advantage_state = optimiser.update(of_advantage, learner.advantage_state)
        advantage = descend(critic.advantage, step, actor_rate)
        step, rest_state = optimiser.update(of_rest, learner.rest_state)
        critic = JointCritic(advantage, descend(critic.rest, step, config.value_speed * rate), critic.unit)
        return Learner(
            actor,
            critic,
            towards(learner.target_actor, actor, config.target_share),
            towards(learner.target_critic, critic, config.target_share),
            actor_state,
            advantage_state,
            rest_state,
            learner.updates,
        ), {**critic_stats, **actor_stats}

    learner, stats = jax.lax.scan(gradient_step, learner, (sequences, keys))
    return learner._replace(updates=learner.updates + 1), jax.tree.map(jnp.mean, stats)


def critic_loss(networks, unit, learner, sequences, key, config):
    """Squared error of the joint value against returns that bootstrap by the target actors' choices."""
    joined = windows(config, sequences)
    observations, shape = rows(joined.observations, 2), joined.choices.shape  # (G, n, C, W)
    logits = learner.target_actor(rows(joined.observations))
    targets = one_hot_draw(key, logits, config.relaxation).reshape(*observations.shape[:2], -1)
    bootstrap = learner.target_critic(observations, targets, rows(joined.states)).reshape(shape[:-1])
    horizon = config.horizon // config.window
    returns = lambda_returns(config, joined.rewards, joined.gaps_s, bootstrap, horizon)
    learnt = jax.tree.map(lambda x: x[:, : shape[1] - horizon], joined)
    chosen = jax.nn.one_hot(rows(learnt.choices), logits.shape[-1])
    values = JointCritic(*networks, unit)(rows(learnt.observations, 2), chosen, rows(learnt.states))
    return squared_error(config, values.reshape(returns.shape), returns)


def actor_loss(actor, critic, sequences, key, config):
    """Minus the joint value of what the actors would choose, and minus the entropy bonus."""
    joined = windows(config, sequences)
    observations = rows(joined.observations, 2)
    logits = actor(rows(joined.observations))
    log_probs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    choices = one_hot_draw(key, logits, config.relaxation).reshape(*observations.shape[:2], -1)
    value = critic(observations, choices, rows(joined.states)).mean()
    return -value - config.window * config.entropy * critic.unit * entropy, {"entropy": entropy}
