"""D2SAC (Du et al. 2023, as in AGOD and LAD-TS): soft actor-critic whose policy is a diffusion model.

The actor denoises the logits in ``STEPS`` steps, conditioned on the local observation (policies/diffusion.py). It is
trained through the whole chain, as soft actor-critic for discrete choices (Christodoulou 2019) against the smaller of
twin critics. Its temperature is fixed, as in Du et al.'s code: ``alpha`` times ``logit_cost``. The denoiser predicts
the clean scores rather than the noise, so the chain starts as the tuned rule's softmax. The twins are two advantages of
the actor's form (they start as minus the social cost) over one value of the global state, which only training sees.
Because they share the value, the smaller of the two depends on the choices alone. Returns, copies and scale: see
offpolicy.py. Unlike AGOD's, the targets are soft (every later decision earns its entropy bonus) and bootstrap with the
present actor.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import PositiveFloat

from edgebrush.policies.diffusion import STEPS
from edgebrush.policies.folder import MLP

from ..networks import Actor, Critic, Diffusion, new_diffusion
from ..offpolicy import (
    InitContext,
    Learner,
    Networks,
    OffPolicyConfig,
    OffPolicyTraining,
    flatten_batch,
    take_along_choices,
    value_loss,
)
from ..optimiser import Stats
from ..replay_buffer import Sequences
from ..returns import lambda_returns


@dataclass(frozen=True)
class D2sacConfig(OffPolicyConfig):
    """Hyperparameters; see ``OffPolicyConfig`` for the rest."""

    alpha: PositiveFloat = 1.0  # soft actor-critic's temperature, in multiples of ``logit_cost``


class Twins(eqx.Module):
    """Twin Qs of every choice, ``(B, C)`` each, from local observations and, for their shared value, states.

    As published, the value is of the local observation, too.
    """

    first: Actor
    second: Actor
    value: Critic
    logit_cost: jax.Array

    def __call__(self, observations: jax.Array, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = self.value(observations if self.first.kind == MLP else states)[:, None]
        logit_cost = jax.lax.stop_gradient(self.logit_cost)
        first, second = (values + logit_cost * each.advantages(observations) for each in (self.first, self.second))
        return first, second


def sample_noise(key: jax.Array, actor: Diffusion, rows: int) -> jax.Array:
    """Standard normal noise ``(rows, STEPS, C)``, in a loop: otherwise XLA recomputes it wherever it is read."""
    shape = (rows, actor.layout.action_space.count)
    return jax.lax.map(lambda key: jax.random.normal(key, shape), jax.random.split(key, STEPS)).swapaxes(0, 1)


def log_policy(actor: Diffusion, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Log-probabilities ``(B, C)`` of all choices, denoised from new noise."""
    return jax.nn.log_softmax(actor.denoise(observations, sample_noise(key, actor, len(observations))))


def critic_loss(
    networks: Networks, learner: Learner, sequences: Sequences, key: jax.Array, config: D2sacConfig
) -> tuple[jax.Array, Stats]:
    """Squared errors of both twins against soft returns: every later decision earns its entropy bonus."""
    learnt, shape = config.length, sequences.choices.shape
    observations, states = flatten_batch(sequences.observations), flatten_batch(sequences.states)
    log_probs = log_policy(learner.parts["actor"].network, observations, key)
    price = config.alpha * learner.logit_cost
    soft_q = jnp.minimum(*learner.target(observations, states)) - price * log_probs
    bootstrap = (jnp.exp(log_probs) * soft_q).sum(-1).reshape(shape)
    bonus = -price * take_along_choices(log_probs, flatten_batch(sequences.choices, 0)).reshape(shape)
    returns = lambda_returns(config, sequences.rewards + bonus, sequences.gaps_s, bootstrap, config.horizon)
    returns = returns - jax.lax.stop_gradient(bonus[:, :learnt])  # Q of a decision is without its own bonus
    choices = flatten_batch(sequences.choices[:, :learnt], 0)
    first, second = Training.online(networks, learner.logit_cost)(
        flatten_batch(sequences.observations[:, :learnt]), flatten_batch(sequences.states[:, :learnt])
    )
    first_loss, stats = value_loss(config, take_along_choices(first, choices).reshape(returns.shape), returns)
    second_loss, _ = value_loss(config, take_along_choices(second, choices).reshape(returns.shape), returns)
    return first_loss + second_loss, stats


def actor_loss(
    networks: Networks, learner: Learner, sequences: Sequences, key: jax.Array, config: D2sacConfig
) -> tuple[jax.Array, Stats]:
    """Soft actor-critic's loss: minus the policy's mean of the smaller Q, minus the temperature times its entropy."""
    observations = flatten_batch(sequences.observations[:, : config.length])
    log_probs = log_policy(networks["actor"], observations, key)
    twins = Training.online(learner.networks, learner.logit_cost)
    q = jnp.minimum(*twins(observations, flatten_batch(sequences.states[:, : config.length])))
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    value = (jnp.exp(log_probs) * q).sum(-1).mean()
    return -value - config.alpha * learner.logit_cost * entropy, {"entropy": entropy}


class Training(OffPolicyTraining):
    """The training of one seed of D2SAC."""

    algorithm = "d2sac"
    config: D2sacConfig
    losses = ((("first", "second", "value"), critic_loss), (("actor",), actor_loss))

    def new_networks(self, context: InitContext, rng: np.random.Generator) -> Networks:
        first, second = (context.new_actor(rng) for _ in range(2))
        seen = context.rollout.observations if self.config.network == MLP else context.rollout.states
        hidden, bs_count = self.config.actor_hidden, context.bs_count
        actor = new_diffusion(rng, first, hidden, bs_count, context.rule_parameters)
        return {"actor": actor, "first": first, "second": second, "value": context.new_value(rng, seen)}

    @staticmethod
    def online(networks: Networks, logit_cost: jax.Array) -> Twins:
        return Twins(networks["first"], networks["second"], networks["value"], logit_cost)

    @property
    def logit_temperature(self) -> float:
        """The actor is the softmax of Q over this many ``logit_cost``."""
        return self.config.alpha
