"""MAPPO: a centralised critic, actors with shared weights that see only what their UE sees.

Yu et al. 2022's practices (value normalisation, orthogonal initialisation, clipping, one learning-rate schedule) on
the merged sequence of all UEs' decisions, by default in copies with common arrivals: see onpolicy.py. One seed is one
single-threaded process; several seeds run side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ..onpolicy import Learner, OnPolicyTraining, actor_critic_update, check_minibatches
from ..rollout import Batch


@dataclass(frozen=True)
class MappoConfig:
    """Hyperparameters; names as in Yu et al. 2022 where they have one."""

    seconds: PositiveFloat | None = None  # the training's length, compilation included; None: ``decisions`` set it
    decisions: PositiveInt = 10_000_000
    copies: PositiveInt = 8  # episodes per group with common arrivals; 1 is plain MAPPO
    groups: PositiveInt = 32
    length: PositiveInt = 128  # decisions per episode and update
    epochs: PositiveInt = 3
    minibatches: PositiveInt = 16
    learning_rate: PositiveFloat = 2e-3  # falls linearly to 0 over the training
    clip: PositiveFloat = 0.2
    entropy: NonNegativeFloat = 0.003
    max_grad_norm: PositiveFloat = 0.5  # of actor and critic each: under one norm the actor starves the critic
    adam_eps: PositiveFloat = 1e-8
    discount_per_s: NonNegativeFloat = 0.002  # rho: gamma over a gap dt is exp(-rho dt)
    trace_decay_per_s: NonNegativeFloat = 0.1  # GAE's lambda over a gap dt is exp(-decay dt)
    critic_updates: NonNegativeInt = 5  # at first the critic learns alone
    actor_hidden: PositiveInt = 32
    critic_hidden: PositiveInt = 64
    normaliser_decay: NonNegativeFloat = 0.9
    sharpness: PositiveFloat = 4.0  # training explores; the policy that it leaves has so many times the logits
    own_prices: bool = False  # True: start from no prices instead of the tuned rule's

    def __post_init__(self) -> None:
        check_minibatches(self)


class Training(OnPolicyTraining):
    """One seed's training of MAPPO."""

    @property
    def name(self) -> str:  # type: ignore[override]
        return "mappo" if self.config.copies > 1 else "mappo-plain"

    def update(self, batch: Batch, key: jax.Array, rate: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        return update(self.config, self.learner, batch, key, rate)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: MappoConfig, learner: Learner, batch: Batch, key: jax.Array, rate: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """One whole update at learning rate ``rate``: all epochs and minibatches."""
    return actor_critic_update(config, learner, batch, jax.random.split(key, config.epochs), rate, actor_loss)


def actor_loss(actor, observations, choices, old_log_probs, advantages, config):
    """PPO's clipped objective on the joint choice's probability, less the entropy bonus."""
    scores = actor(observations)
    log_probs = jax.nn.log_softmax(scores)
    ratio = jnp.exp(jnp.take_along_axis(log_probs, choices[:, None], axis=-1)[:, 0] - old_log_probs)
    clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    gain = jnp.minimum(ratio * advantages, clipped * advantages).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    stats = {
        "entropy": entropy,
        "kl": (ratio - 1.0 - jnp.log(ratio)).mean(),
        "clipped": (jnp.abs(ratio - 1.0) > config.clip).mean(),
    }
    return -gain - config.entropy * entropy, stats
