"""MAA2C: advantage actor-critic (Mnih et al. 2016) with a centralised critic, as in Papoudakis et al. 2021.

Rollouts, advantages and critic are MAPPO's (onpolicy.py). The actor follows the plain policy gradient, without ratios
or clipping, and makes one pass through each batch. With one minibatch this is exactly A2C. With more, the later
gradients are of an actor that has already moved a little; this adds some bias and saves many decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp

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
from ..rollout import Rollout, log_prob


@dataclass(frozen=True)
class Maa2cConfig(ActorCriticConfig):
    """Hyperparameters: see ``ActorCriticConfig``."""


class Training(ActorCriticTraining):
    """The training of one seed of MAA2C."""

    algorithm = "maa2c"
    config: Maa2cConfig

    def update(self, rollout: Rollout, key: jax.Array, learning_rate: jax.Array) -> tuple[Learner, Stats]:
        return update(self.config, self.learner, rollout, key, learning_rate)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: Maa2cConfig, learner: Learner, rollout: Rollout, key: jax.Array, learning_rate: jax.Array
) -> tuple[Learner, Stats]:
    """One update: one pass through the minibatches."""
    states = learner.critic.network.prepare(rollout.states)
    learner, advantages, targets, stats = compute_advantages(config, learner, rollout, states)
    batch = to_rows(learner.actor.network, rollout, states, advantages, targets, config.copies)

    def minibatch_step(learner: Learner, rows: jax.Array) -> tuple[Learner, Stats]:
        return actor_critic_step(config, learner, take_rows(batch, rows), learning_rate, actor_loss)

    order = jax.random.permutation(key, len(batch.choices))
    learner, losses = jax.lax.scan(minibatch_step, learner, order.reshape(config.minibatches, -1))
    return learner._replace(updates=learner.updates + 1), {**jax.tree.map(jnp.mean, losses), **stats}


def actor_loss(actor: Actor, minibatch: Batch, config: Maa2cConfig) -> tuple[jax.Array, Stats]:
    """The policy gradient's surrogate loss, minus the entropy bonus."""
    logits = actor.logits(minibatch.inputs)
    log_probs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    gain = (log_prob(logits, minibatch.choices) * minibatch.advantages).mean()
    return -gain - config.entropy * entropy, {"entropy": entropy}
