"""D3QN: independent dueling double DQN, with one network and one replay buffer for all UEs.

Q of a choice is a value of the local observation plus an advantage, which has the actor's own form (expected-cost
table, prices, a small network: policies/actor.py). Double DQN (van Hasselt et al. 2016), dueling (Wang et al. 2016),
returns over the copies' sequences (offpolicy.py). The next decision is that of the merged sequence, whichever UE makes
it: the UEs are one team with one set of weights and one reward, the world is semi-Markov in that sequence, and a UE's
own next decision comes about 20 decisions later. The learners are independent because no value sees more than one UE's
observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from edgebrush.policies.folder import MLP

from ..networks import Actor, Critic, dueling
from ..offpolicy import (
    InitContext,
    OffPolicyConfig,
    QTraining,
    flatten_batch,
    learning_rates,
    q_step,
    scan_steps,
    take_along_choices,
    value_loss,
)
from ..optimiser import Stats, TrainState, make_optimiser, new_train_state, polyak_update
from ..replay_buffer import Sequences
from ..returns import lambda_returns


@dataclass(frozen=True)
class D3qnConfig(OffPolicyConfig):
    """Hyperparameters: see ``OffPolicyConfig``."""


class Q(eqx.Module):
    """Q of every choice, ``(B, C)``, from local observations ``(B, O)``."""

    actor: Actor
    value: Critic
    logit_cost: jax.Array

    def __call__(self, observations: jax.Array) -> jax.Array:
        logit_cost = jax.lax.stop_gradient(self.logit_cost)
        return dueling(self.actor(observations), self.value(observations), logit_cost, self.actor.kind == MLP)


def new_q(context: InitContext, rng: np.random.Generator) -> Q:
    """Q before training: minus the social cost, with values close to zero; of perceptrons, the mean return."""
    actor = context.new_actor(rng)
    return Q(actor, context.new_value(rng, context.rollout.observations), context.logit_cost(actor))


class Learner(NamedTuple):
    """Everything that learns, as one pytree."""

    actor: TrainState[Actor]
    value: TrainState[Critic]
    target: Q
    logit_cost: jax.Array
    updates: jax.Array

    @property
    def q(self) -> Q:
        return Q(self.actor.network, self.value.network, self.logit_cost)


class Training(QTraining):
    """The training of one seed of D3QN."""

    algorithm = "d3qn"
    config: D3qnConfig
    learner: Learner

    def new_learner(self, context: InitContext, rng: np.random.Generator) -> Learner:
        q, optimiser = new_q(context, rng), make_optimiser(self.config)
        actor, value = new_train_state(optimiser, q.actor), new_train_state(optimiser, q.value)
        return Learner(actor, value, jax.tree.map(jnp.copy, q), q.logit_cost, jnp.zeros((), jnp.int32))

    def update(self, sequences: Sequences, keys: jax.Array, learning_rate: jax.Array) -> tuple[Learner, Stats]:
        return update(self.config, self.learner, sequences, learning_rate)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: D3qnConfig, learner: Learner, sequences: Sequences, learning_rate: jax.Array
) -> tuple[Learner, Stats]:
    """A gradient step on each of ``sequences (steps, G, T, C, ...)``."""
    rates = learning_rates(config, learner.updates, learning_rate)

    def step(learner: Learner, sequences: Sequences) -> tuple[Learner, Stats]:
        learner, stats = q_step(config, learner, sequences, rates, loss)
        return learner._replace(target=polyak_update(learner.target, learner.q, config.target_share)), stats

    return scan_steps(step, learner, sequences)


def loss(
    networks: tuple[Actor, Critic], learner: Learner, sequences: Sequences, config: D3qnConfig
) -> tuple[jax.Array, Stats]:
    """Squared error of the chosen Q against returns that bootstrap by double Q-learning."""
    q = Q(*networks, learner.logit_cost)
    learnt = config.length - config.horizon
    observations = flatten_batch(sequences.observations)
    best = jax.lax.stop_gradient(q)(observations).argmax(-1)
    bootstrap = take_along_choices(learner.target(observations), best).reshape(sequences.choices.shape)
    returns = lambda_returns(config, sequences.rewards, sequences.gaps_s, bootstrap, config.horizon)
    values = q(flatten_batch(sequences.observations[:, :learnt]))
    chosen = take_along_choices(values, flatten_batch(sequences.choices[:, :learnt], 0))
    return value_loss(config, chosen.reshape(returns.shape), returns)
