"""MAA2C: advantage actor-critic (Mnih et al. 2016) with a centralised critic, as in Papoudakis et al. 2021.

Rollouts, advantages and critic are MAPPO's (mappo.py). The actor follows the plain policy gradient, without ratios or
clipping, and makes one pass through each batch. With one minibatch this is exactly A2C. With more, the later gradients
are of an actor that has already moved a little; this adds some bias and saves many decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ..networks import Actor
from ..optimiser import Stats
from ..rollout import log_prob
from .mappo import ActorCriticConfig, ActorCriticTraining, Batch


@dataclass(frozen=True)
class Maa2cConfig(ActorCriticConfig):
    """Hyperparameters: see ``ActorCriticConfig``."""


def policy_gradient_loss(actor: Actor, minibatch: Batch, config: Maa2cConfig) -> tuple[jax.Array, Stats]:
    """The policy gradient's surrogate loss, minus the entropy bonus."""
    logits = actor.logits(minibatch.inputs)
    log_probs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    gain = (log_prob(logits, minibatch.choices) * minibatch.advantages).mean()
    return -gain - config.entropy * entropy, {"entropy": entropy}


class Training(ActorCriticTraining):
    """The training of one seed of MAA2C."""

    algorithm = "maa2c"
    config: Maa2cConfig
    actor_loss = staticmethod(policy_gradient_loss)
