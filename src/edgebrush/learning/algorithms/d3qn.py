"""D3QN: independent dueling double DQN, with one network and one replay buffer for all UEs.

Q of a choice is a value of the local observation plus an advantage, which has the actor's own form (expected-cost
table, prices, a small network: policies/actor.py). Double DQN (van Hasselt et al. 2016), dueling (Wang et al. 2016),
returns over the copies' sequences (offpolicy.py). The next decision is that of the merged sequence, whichever UE makes
it: the UEs are one team with one set of weights and one reward, the world is semi-Markov in that sequence, and a UE's
own next decision comes about 20 decisions later. The learners are independent because no value sees more than one UE's
observation.

VDN and QMIX are the same learner of *joint* decisions: a mixer makes one value of the Qs of several deciders. D3QN's
joint decision has one decider.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import numpy as np

from ..networks import Actor, Critic
from ..offpolicy import (
    InitContext,
    JointConfig,
    Learner,
    Networks,
    QTraining,
    flatten_batch,
    join_decisions,
    take_along_choices,
    value_loss,
)
from ..optimiser import Stats
from ..replay_buffer import Sequences
from ..returns import lambda_returns


@dataclass(frozen=True)
class D3qnConfig(JointConfig):
    """Hyperparameters: see ``OffPolicyConfig``."""

    window: Literal[1] = 1


class Q(eqx.Module):
    """Q of every choice, ``(B, C)``, from local observations ``(B, O)``."""

    actor: Actor
    value: Critic
    logit_cost: jax.Array

    def __call__(self, observations: jax.Array) -> jax.Array:
        logit_cost = jax.lax.stop_gradient(self.logit_cost)
        return self.value(observations)[:, None] + logit_cost * self.actor.advantages(observations)


class Sum(eqx.Module):
    """The mixer of VDN, and of a single decider: the sum of the utilities."""

    def __call__(self, utilities: jax.Array, states: jax.Array) -> jax.Array:
        """Joint values ``(B,)`` of utilities ``(B, W)`` in states ``(B, Z)``."""
        return utilities.sum(-1)


class JointQ(eqx.Module):
    """The value of a joint decision."""

    q: Q  # the utilities
    mixer: Sum  # or one with the same call

    def __call__(self, utilities: jax.Array, states: jax.Array) -> jax.Array:
        """Joint values ``(B,)`` of utilities ``(B, W)`` in states ``(B, Z)``."""
        return self.mixer(utilities, states)


def joint_loss(
    networks: Networks, learner: Learner, sequences: Sequences, key: jax.Array, config: JointConfig
) -> tuple[jax.Array, Stats]:
    """Squared error of the joint value against returns that bootstrap by double Q-learning, decider by decider."""
    joint: JointQ = Training.online(networks, learner.logit_cost)
    joined = join_decisions(config, sequences)
    observations, shape = flatten_batch(joined.observations), joined.choices.shape  # (G, n, C, W)
    best = jax.lax.stop_gradient(joint.q)(observations).argmax(-1)
    utilities = take_along_choices(learner.target.q(observations), best).reshape(-1, config.window)
    bootstrap = learner.target(utilities, flatten_batch(joined.states)).reshape(shape[:-1])
    horizon = config.horizon // config.window
    returns = lambda_returns(config, joined.rewards, joined.gaps_s, bootstrap, horizon)
    learnt = jax.tree.map(lambda x: x[:, : shape[1] - horizon], joined)
    values = joint.q(flatten_batch(learnt.observations))
    utilities = take_along_choices(values, flatten_batch(learnt.choices, 0)).reshape(-1, config.window)
    return value_loss(config, joint(utilities, flatten_batch(learnt.states)).reshape(returns.shape), returns)


class Training(QTraining):
    """The training of one seed of D3QN."""

    algorithm = "d3qn"
    config: JointConfig
    losses = ((("actor", "value", "mixer"), joint_loss),)

    def new_networks(self, context: InitContext, rng: np.random.Generator) -> Networks:
        actor = context.new_actor(rng)
        value = context.new_value(rng, context.rollout.observations)
        return {"actor": actor, "value": value, "mixer": self.new_mixer(context, rng)}

    def new_mixer(self, context: InitContext, rng: np.random.Generator) -> eqx.Module:
        """The mixer before training."""
        return Sum()

    @staticmethod
    def online(networks: Networks, logit_cost: jax.Array) -> JointQ:
        return JointQ(Q(networks["actor"], networks["value"], logit_cost), networks["mixer"])
