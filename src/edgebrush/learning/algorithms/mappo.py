"""MAPPO (Yu et al. 2022): PPO with a centralised critic; actors share weights and see only their UE's observation.

It follows Yu et al.'s practices (value normalisation, orthogonal initialisation, clipping, a falling learning rate) on
the merged sequence of all UEs' decisions, by default in copies with common arrivals: see returns.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from pydantic import PositiveFloat, PositiveInt

from edgebrush.policies.folder import MLP

from ..networks import Actor
from ..onpolicy import (
    ActorCriticConfig,
    ActorCriticTraining,
    Batch,
    Learner,
    actor_critic_step,
    compute_advantages,
    take_rows,
    to_rows,
)
from ..optimiser import Stats
from ..rollout import Rollout


@dataclass(frozen=True)
class MappoConfig(ActorCriticConfig):
    """Hyperparameters, named as in Yu et al. 2022; see ``ActorCriticConfig`` for the rest."""

    epochs: PositiveInt = 3
    clip: PositiveFloat = 0.2


class Training(ActorCriticTraining):
    """The training of one seed of MAPPO; without copies it is plain MAPPO."""

    algorithm = "mappo"
    config: MappoConfig

    @property
    def name(self) -> str:
        if self.config.network == MLP:
            return f"{self.algorithm}-published"
        return self.algorithm if self.config.copies > 1 else f"{self.algorithm}-plain"

    def update(self, rollout: Rollout, key: jax.Array, learning_rate: jax.Array) -> tuple[Learner, Stats]:
        return update(self.config, self.learner, rollout, key, learning_rate)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: MappoConfig, learner: Learner, rollout: Rollout, key: jax.Array, learning_rate: jax.Array
) -> tuple[Learner, Stats]:
    """One update: all epochs and minibatches."""
    states = learner.critic.network.prepare(rollout.states)
    learner, advantages, targets, stats = compute_advantages(config, learner, rollout, states)
    batch = to_rows(learner.actor.network, rollout, states, advantages, targets, config.copies)

    def minibatch_step(learner: Learner, rows: jax.Array) -> tuple[Learner, Stats]:
        return actor_critic_step(config, learner, take_rows(batch, rows), learning_rate, actor_loss)

    def epoch(learner: Learner, key: jax.Array) -> tuple[Learner, Stats]:
        order = jax.random.permutation(key, len(batch.choices))
        return jax.lax.scan(minibatch_step, learner, order.reshape(config.minibatches, -1))

    learner, losses = jax.lax.scan(epoch, learner, jax.random.split(key, config.epochs))
    return learner._replace(updates=learner.updates + 1), {**jax.tree.map(jnp.mean, losses), **stats}


def actor_loss(actor: Actor, minibatch: Batch, config: MappoConfig) -> tuple[jax.Array, Stats]:
    """PPO's clipped objective on the probability of the joint choice, minus the entropy bonus."""
    log_probs = jax.nn.log_softmax(actor.logits(minibatch.inputs))
    ratio = jnp.exp(jnp.take_along_axis(log_probs, minibatch.choices[:, None], axis=-1)[:, 0] - minibatch.log_probs)
    clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    gain = jnp.minimum(ratio * minibatch.advantages, clipped * minibatch.advantages).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    stats = {
        "entropy": entropy,
        "kl": (ratio - 1.0 - jnp.log(ratio)).mean(),
        "clipped": (jnp.abs(ratio - 1.0) > config.clip).mean(),
    }
    return -gain - config.entropy * entropy, stats
