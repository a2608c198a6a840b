"""Independent dueling double DQN: every UE learns on its local observation alone, with shared weights and one replay.

Q of a choice is a value of the local observation plus the actor's own form for the advantage (expected-cost table,
prices, a small network: policies/actor.py). Double DQN (van Hasselt et al. 2016), dueling (Wang et al. 2016), returns
over the copies' sequences as offpolicy.py says. "Next" is the next decision of the merged sequence, whichever UE takes
it: the UEs are one team with one set of weights and one reward, the world is semi-Markov in that sequence, and a UE's
own next decision is 20 others away. What makes the learners independent: no value sees more than one UE's observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..networks import Actor, Critic, dueling, sharpened, towards, unit_of
from ..offpolicy import (
    Look,
    OffPolicyConfig,
    OffPolicyTraining,
    lambda_returns,
    pick,
    rows,
    squared_error,
)
from ..onpolicy import descend, make_optimiser
from ..replay_buffer import Sequences


@dataclass(frozen=True)
class D3qnConfig(OffPolicyConfig):
    """Hyperparameters: see ``OffPolicyConfig``."""


class Q(eqx.Module):
    """Q of every choice, ``(B, C)``, from local observations ``(B, O)``."""

    actor: Actor
    value: Critic
    unit: jax.Array

    def __call__(self, observations: jax.Array) -> jax.Array:
        return dueling(self.actor(observations), self.value(observations), jax.lax.stop_gradient(self.unit))


class Learner(NamedTuple):
    """All that learns, as one pytree."""

    q: Q
    target: Q
    actor_state: optax.OptState
    value_state: optax.OptState
    updates: jax.Array


def new_q(config: OffPolicyConfig, look: Look, rng: np.random.Generator) -> Q:
    """Q before any update: minus the social cost, and no value."""
    actor = look.new_actor(rng, config.actor_hidden)
    return Q(actor, look.new_value(rng, look.batch.observations, config.critic_hidden), unit_of(actor))


class Training(OffPolicyTraining):
    """One seed's training of D3QN."""

    name = "d3qn"

    def new_learner(self, look: Look, rng: np.random.Generator) -> Learner:
        q, optimiser = new_q(self.config, look, rng), make_optimiser(self.config)
        actor_state, value_state = (optimiser.init(eqx.filter(x, eqx.is_array)) for x in (q.actor, q.value))
        return Learner(q, jax.tree.map(jnp.copy, q), actor_state, value_state, jnp.zeros((), jnp.int32))

    def update(self, sequences: Sequences, keys: jax.Array, rate: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        return update(self.config, self.learner, sequences, rate)

    @property
    def actor(self) -> Actor:
        return self.learner.q.actor

    @property
    def deployed(self) -> Actor:
        return sharpened(self.actor, self.learner.q.unit / self.config.temperature)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: D3qnConfig, learner: Learner, sequences: Sequences, rate: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """A gradient step on each of ``sequences (steps, G, T, C, ...)``, at learning rate ``rate``."""
    optimiser = make_optimiser(config)
    actor_rate = rate * (learner.updates >= config.value_updates)

    def gradient_step(learner, sequences):
        q, target, actor_state, value_state, updates = learner
        (_, stats), (of_actor, of_value) = eqx.filter_value_and_grad(loss, has_aux=True)(
            (q.actor, q.value), q.unit, target, sequences, config
        )
        step, actor_state = optimiser.update(of_actor, actor_state)
        actor = descend(q.actor, step, actor_rate)
        step, value_state = optimiser.update(of_value, value_state)
        value = descend(q.value, step, config.value_speed * rate)
        q = Q(actor, value, q.unit)
        return Learner(q, towards(target, q, config.target_share), actor_state, value_state, updates), stats

    learner, stats = jax.lax.scan(gradient_step, learner, sequences)
    return learner._replace(updates=learner.updates + 1), jax.tree.map(jnp.mean, stats)


def loss(networks, unit, target, sequences, config):
    """Squared error of the chosen Q against returns that bootstrap by double Q-learning."""
    q = Q(*networks, unit)
    learnt = config.length - config.horizon
    observations, shape = rows(sequences.observations), sequences.choices.shape
    best = jax.lax.stop_gradient(q)(observations).argmax(-1)
    bootstrap = pick(target(observations), best).reshape(shape)
    returns = lambda_returns(config, sequences.rewards, sequences.gaps_s, bootstrap, config.horizon)
    chosen = pick(q(rows(sequences.observations[:, :learnt])), rows(sequences.choices[:, :learnt], 0))
    return squared_error(config, chosen.reshape(returns.shape), returns)
