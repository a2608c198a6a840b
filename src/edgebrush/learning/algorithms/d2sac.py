"""D2SAC (Du et al. 2023, as in AGOD and LAD-TS): soft actor-critic whose policy is a diffusion model.

The actor denoises the logits in ``STEPS`` steps conditioned on the local observation (policies/diffusion.py) and is
trained through the whole chain, as soft actor-critic for discrete choices (Christodoulou 2019) against the smaller of
twin critics. Its temperature is fixed, as in Du et al.'s code: ``alpha`` times ``unit``, the cost of one logit. The
denoiser predicts the clean scores rather than the noise, so that the chain starts as the tuned rule's softmax. The
twins are two advantages of the actor's form (they start as minus the social cost) over one value of the global state,
which training alone sees; that they share it keeps the smaller of the two a matter of the choices. Returns, copies,
units: offpolicy.py. Unlike AGOD's, the targets are soft, and bootstrap by the present actor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import PositiveFloat

from edgebrush.policies.diffusion import STEPS, input_size
from edgebrush.policies.folder import DIFFUSION

from ..networks import Actor, Critic, Diffusion, dueling, first_weights, towards, unit_of
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
class D2sacConfig(OffPolicyConfig):
    """Hyperparameters; see ``OffPolicyConfig`` for the rest."""

    alpha: PositiveFloat = 1.0  # soft actor-critic's temperature, in units of ``unit``


class Twins(eqx.Module):
    """Twin Qs of every choice, ``(B, C)`` each, from local observations and, for the value they share, states."""

    advantages: tuple[Actor, Actor]
    value: Critic
    unit: jax.Array

    def __call__(self, observations: jax.Array, states: jax.Array) -> tuple[jax.Array, ...]:
        values, unit = self.value(states), jax.lax.stop_gradient(self.unit)
        return tuple(dueling(advantage(observations), values, unit) for advantage in self.advantages)


class Learner(NamedTuple):
    """All that learns, as one pytree."""

    actor: Diffusion
    twins: Twins
    target: Twins
    actor_state: optax.OptState
    advantages_state: optax.OptState
    value_state: optax.OptState
    updates: jax.Array


def new_diffusion(look: Look, rng: np.random.Generator, hidden: int) -> Diffusion:
    """A diffusion policy that starts as the softmax of the tuned rule."""
    plain = look.new_actor(rng, hidden)  # for its scales and its outputs
    inputs, outputs = input_size(look.layout.action_space), len(plain.weights["b_out"])
    weights = first_weights(rng, inputs, outputs, hidden, look.bs_count, look.numbers)
    scale = jnp.concatenate([plain.scale, jnp.ones(inputs - len(plain.scale))])
    return Diffusion(weights, scale, jnp.zeros(()), plain.step_grid, look.layout)


class Training(OffPolicyTraining):
    """One seed's training of D2SAC."""

    name = "d2sac"
    kind = DIFFUSION

    def new_learner(self, look: Look, rng: np.random.Generator) -> Learner:
        config = self.config
        actor = new_diffusion(look, rng, config.actor_hidden)
        first, second = (look.new_actor(rng, config.actor_hidden) for _ in range(2))
        value = look.new_value(rng, look.batch.states, config.critic_hidden)
        twins, optimiser = Twins((first, second), value, unit_of(first)), make_optimiser(config)
        actor_state, advantages_state, value_state = (
            optimiser.init(eqx.filter(x, eqx.is_array)) for x in (actor, twins.advantages, value)
        )
        return Learner(
            actor,
            twins,
            jax.tree.map(jnp.copy, twins),
            actor_state,
            advantages_state,
            value_state,
            jnp.zeros((), jnp.int32),
        )

    def update(self, sequences: Sequences, keys: jax.Array, rate: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        return update(self.config, self.learner, sequences, keys, rate)

    @property
    def deployed(self) -> Diffusion:
        sharpness = jnp.log(self.learner.twins.unit / self.config.temperature)
        return eqx.tree_at(lambda actor: actor.log_sharpness, self.actor, sharpness)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: D2sacConfig, learner: Learner, sequences: Sequences, keys: jax.Array, rate: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """A gradient step on each of ``sequences (steps, G, T, C, ...)``, at learning rate ``rate``."""
    optimiser = make_optimiser(config)
    actor_rate = rate * (learner.updates >= config.value_updates)

    def gradient_step(learner, row):
        sequences, key = row
        actor, twins = learner.actor, learner.twins
        (_, critic_stats), (of_advantages, of_value) = eqx.filter_value_and_grad(critic_loss, has_aux=True)(
            (twins.advantages, twins.value), twins.unit, learner, sequences, key, config
        )
        (_, actor_stats), of_actor = eqx.filter_value_and_grad(actor_loss, has_aux=True)(
            actor, twins, sequences, jax.random.fold_in(key, 1), config
        )
        step, actor_state = optimiser.update(of_actor, learner.actor_state)
        actor = descend(actor, step, actor_rate)
        step, advantages_state = optimiser.update(of_advantages, learner.advantages_state)
        advantages = descend(twins.advantages, step, actor_rate)
        step, value_state = optimiser.update(of_value, learner.value_state)
        twins = Twins(advantages, descend(twins.value, step, config.value_speed * rate), twins.unit)
        target = towards(learner.target, twins, config.target_share)
        learner = Learner(actor, twins, target, actor_state, advantages_state, value_state, learner.updates)
        return learner, {**critic_stats, **actor_stats}

    learner, stats = jax.lax.scan(gradient_step, learner, (sequences, keys))
    return learner._replace(updates=learner.updates + 1), jax.tree.map(jnp.mean, stats)


def critic_loss(networks, unit, learner, sequences, key, config):
    """Squared errors of both twins against soft returns."""
    shape, learnt = sequences.choices.shape, config.length - config.horizon
    observations, states = rows(sequences.observations), rows(sequences.states)
    log_probs = jax.nn.log_softmax(learner.actor.denoise(observations, noise(key, learner.actor, len(observations))))
    worth = jnp.minimum(*learner.target(observations, states)) - config.alpha * unit * log_probs
    bootstrap = (jnp.exp(log_probs) * worth).sum(-1).reshape(shape)
    returns = lambda_returns(config, sequences.rewards, sequences.gaps_s, bootstrap, config.horizon)
    choices = rows(sequences.choices[:, :learnt], 0)
    twins = Twins(*networks, unit)(rows(sequences.observations[:, :learnt]), rows(sequences.states[:, :learnt]))
    errors = [squared_error(config, pick(q, choices).reshape(returns.shape), returns) for q in twins]
    return errors[0][0] + errors[1][0], errors[0][1]


def actor_loss(actor, twins, sequences, key, config):
    """Soft actor-critic's: the temperature times the log-probabilities less the smaller Q, under the policy."""
    learnt = config.length - config.horizon
    observations = rows(sequences.observations[:, :learnt])
    log_probs = jax.nn.log_softmax(actor.denoise(observations, noise(key, actor, len(observations))))
    q = jnp.minimum(*twins(observations, rows(sequences.states[:, :learnt])))
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    value = (jnp.exp(log_probs) * q).sum(-1).mean()
    return -value - config.alpha * twins.unit * entropy, {"entropy": entropy}


def noise(key: jax.Array, actor: Diffusion, rows: int) -> jax.Array:
    """Standard normal numbers ``(rows, STEPS, C)``, by a loop: else XLA draws them anew wherever they are read."""
    shape = (rows, actor.layout.action_space.count)
    return jax.lax.map(lambda key: jax.random.normal(key, shape), jax.random.split(key, STEPS)).swapaxes(0, 1)
