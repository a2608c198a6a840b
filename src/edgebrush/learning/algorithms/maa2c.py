"""MAA2C: advantage actor-critic (Mnih et al. 2016) with a centralised critic, as in Papoudakis et al. 2021.

Batch, advantages and critic are MAPPO's (onpolicy.py); the actor follows the plain policy gradient, without ratios or
clipping, once through each batch. One minibatch is A2C to the letter; with more, the later ones' gradients are of an
actor that has moved on a little, which costs some bias and saves many decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ..onpolicy import Learner, OnPolicyTraining, actor_critic_update, check_minibatches
from ..rollout import Batch, log_prob_of


@dataclass(frozen=True)
class Maa2cConfig:
    """Hyperparameters; see ``MappoConfig`` for those that both have."""

    seconds: PositiveFloat | None = None
    decisions: PositiveInt = 10_000_000
    copies: PositiveInt = 8
    groups: PositiveInt = 32
    length: PositiveInt = 128
    minibatches: PositiveInt = 16
    learning_rate: PositiveFloat = 2e-3  # falls linearly to 0 over the training
    entropy: NonNegativeFloat = 0.003
    max_grad_norm: PositiveFloat = 0.5
    adam_eps: PositiveFloat = 1e-8
    discount_per_s: NonNegativeFloat = 0.002
    trace_decay_per_s: NonNegativeFloat = 0.1
    critic_updates: NonNegativeInt = 5  # at first the critic learns alone
    actor_hidden: PositiveInt = 32
    critic_hidden: PositiveInt = 64
    normaliser_decay: NonNegativeFloat = 0.9
    sharpness: PositiveFloat = 4.0
    own_prices: bool = False

    def __post_init__(self) -> None:
        check_minibatches(self)


class Training(OnPolicyTraining):
    """One seed's training of MAA2C."""

    name = "maa2c"

    def update(self, batch: Batch, key: jax.Array, rate: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        return update(self.config, self.learner, batch, key, rate)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: Maa2cConfig, learner: Learner, batch: Batch, key: jax.Array, rate: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """One whole update at learning rate ``rate``: one pass through the minibatches."""
    return actor_critic_update(config, learner, batch, key[None], rate, actor_loss)


def actor_loss(actor, observations, choices, _, advantages, config):
    """The policy gradient's surrogate, less the entropy bonus; and the entropy."""
    scores = actor(observations)
    log_probs = jax.nn.log_softmax(scores)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    gain = (log_prob_of(scores, choices) * advantages).mean()
    return -gain - config.entropy * entropy, {"entropy": entropy}
