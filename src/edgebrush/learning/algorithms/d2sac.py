"""D2SAC (Du et al. 2023, as in AGOD and LAD-TS): soft actor-critic whose policy is a diffusion model.

The actor denoises the logits in ``STEPS`` steps, conditioned on the local observation (policies/diffusion.py). It is
trained through the whole chain, as soft actor-critic for discrete choices (Christodoulou 2019) against the smaller of
twin critics. Its temperature is fixed, as in Du et al.'s code: ``alpha`` times ``logit_cost``. The denoiser predicts
the clean scores rather than the noise, so the chain starts as the tuned rule's softmax. The twins are two advantages of
the actor's form (they start as minus the social cost) over one value of the global state, which only training sees.
Because they share the value, the smaller of the two depends on the choices alone. Returns, copies and scale: see
offpolicy.py. Unlike AGOD's, the targets are soft, and bootstrap with the present actor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import PositiveFloat

from edgebrush.policies.diffusion import STEPS, input_size, mlp_input_size
from edgebrush.policies.folder import MLP

from ..networks import Actor, Critic, Diffusion, MlpDiffusion, dueling, init_weights, mlp_weights
from ..offpolicy import (
    InitContext,
    OffPolicyConfig,
    OffPolicyTraining,
    actor_critic_step,
    flatten_batch,
    learning_rates,
    scan_steps,
    take_along_choices,
    value_loss,
)
from ..optimiser import Stats, TrainState, make_optimiser, new_train_state, polyak_update
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

    advantages: tuple[Actor, Actor]
    value: Critic
    logit_cost: jax.Array

    def __call__(self, observations: jax.Array, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        published = self.advantages[0].kind == MLP
        values, logit_cost = self.value(observations if published else states), jax.lax.stop_gradient(self.logit_cost)
        first, second = (
            dueling(advantage(observations), values, logit_cost, published) for advantage in self.advantages
        )
        return first, second


def new_diffusion(context: InitContext, rng: np.random.Generator) -> Diffusion:
    """A diffusion policy that starts as the softmax of the tuned rule; a perceptron, with nearly equal scores."""
    actor, hidden = context.new_actor(rng), context.config.actor_hidden  # for its input scales and number of outputs
    layout, bs_count = context.layout, context.bs_count
    if context.config.network == MLP:
        inputs = mlp_input_size(layout, bs_count)
        weights = mlp_weights(rng, inputs, hidden, layout.action_space.count)
        scale = jnp.concatenate([actor.scale, jnp.ones(inputs - len(actor.scale))])
        return MlpDiffusion(weights, scale, jnp.zeros(()), layout, bs_count)
    inputs, outputs = input_size(layout.action_space), len(actor.weights["b_out"])
    weights = init_weights(rng, inputs, outputs, hidden, bs_count, context.rule_parameters)
    scale = jnp.concatenate([actor.scale, jnp.ones(inputs - len(actor.scale))])
    return Diffusion(weights, scale, jnp.zeros(()), layout)


def sample_noise(key: jax.Array, actor: Diffusion, rows: int) -> jax.Array:
    """Standard normal noise ``(rows, STEPS, C)``, in a loop: otherwise XLA recomputes it wherever it is read."""
    shape = (rows, actor.layout.action_space.count)
    return jax.lax.map(lambda key: jax.random.normal(key, shape), jax.random.split(key, STEPS)).swapaxes(0, 1)


class Learner(NamedTuple):
    """Everything that learns, as one pytree."""

    actor: TrainState[Diffusion]
    advantage: TrainState[tuple[Actor, Actor]]  # of each twin
    value: TrainState[Critic]
    target: Twins
    logit_cost: jax.Array
    updates: jax.Array

    @property
    def twins(self) -> Twins:
        return Twins(self.advantage.network, self.value.network, self.logit_cost)


class Training(OffPolicyTraining):
    """The training of one seed of D2SAC."""

    algorithm = "d2sac"
    config: D2sacConfig
    learner: Learner

    def new_learner(self, context: InitContext, rng: np.random.Generator) -> Learner:
        config, optimiser = self.config, make_optimiser(self.config)
        actor = new_diffusion(context, rng)
        first, second = (context.new_actor(rng) for _ in range(2))
        seen = context.rollout.observations if config.network == MLP else context.rollout.states
        value = context.new_value(rng, seen)
        twins = Twins((first, second), value, context.logit_cost(first))
        return Learner(
            new_train_state(optimiser, actor),
            new_train_state(optimiser, twins.advantages),
            new_train_state(optimiser, value),
            jax.tree.map(jnp.copy, twins),
            twins.logit_cost,
            jnp.zeros((), jnp.int32),
        )

    def update(self, sequences: Sequences, keys: jax.Array, learning_rate: jax.Array) -> tuple[Learner, Stats]:
        return update(self.config, self.learner, sequences, keys, learning_rate)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: D2sacConfig, learner: Learner, sequences: Sequences, keys: jax.Array, learning_rate: jax.Array
) -> tuple[Learner, Stats]:
    """A gradient step on each of ``sequences (steps, G, T, C, ...)``."""
    rates = learning_rates(config, learner.updates, learning_rate)

    def step(learner: Learner, batch: tuple[Sequences, jax.Array]) -> tuple[Learner, Stats]:
        learner, stats = actor_critic_step(config, learner, *batch, rates, critic_loss, actor_loss)
        target = polyak_update(learner.target, learner.twins, config.target_share)
        return learner._replace(target=target), stats

    return scan_steps(step, learner, (sequences, keys))


def critic_loss(
    networks: tuple[tuple[Actor, Actor], Critic],
    learner: Learner,
    sequences: Sequences,
    key: jax.Array,
    config: D2sacConfig,
) -> tuple[jax.Array, Stats]:
    """Squared errors of both twins against soft returns."""
    actor, learnt = learner.actor.network, config.length - config.horizon
    observations, states = flatten_batch(sequences.observations), flatten_batch(sequences.states)
    log_probs = jax.nn.log_softmax(actor.denoise(observations, sample_noise(key, actor, len(observations))))
    soft_q = jnp.minimum(*learner.target(observations, states)) - config.alpha * learner.logit_cost * log_probs
    bootstrap = (jnp.exp(log_probs) * soft_q).sum(-1).reshape(sequences.choices.shape)
    returns = lambda_returns(config, sequences.rewards, sequences.gaps_s, bootstrap, config.horizon)
    choices = flatten_batch(sequences.choices[:, :learnt], 0)
    first, second = Twins(*networks, learner.logit_cost)(
        flatten_batch(sequences.observations[:, :learnt]), flatten_batch(sequences.states[:, :learnt])
    )
    first_loss, stats = value_loss(config, take_along_choices(first, choices).reshape(returns.shape), returns)
    second_loss, _ = value_loss(config, take_along_choices(second, choices).reshape(returns.shape), returns)
    return first_loss + second_loss, stats


def actor_loss(
    actor: Diffusion, learner: Learner, sequences: Sequences, key: jax.Array, config: D2sacConfig
) -> tuple[jax.Array, Stats]:
    """Soft actor-critic's loss: minus the policy's mean of the smaller Q, minus the temperature times its entropy."""
    learnt = config.length - config.horizon
    observations = flatten_batch(sequences.observations[:, :learnt])
    log_probs = jax.nn.log_softmax(actor.denoise(observations, sample_noise(key, actor, len(observations))))
    q = jnp.minimum(*learner.twins(observations, flatten_batch(sequences.states[:, :learnt])))
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    value = (jnp.exp(log_probs) * q).sum(-1).mean()
    return -value - config.alpha * learner.logit_cost * entropy, {"entropy": entropy}
