"""MAPPO (Yu et al. 2022): PPO with a centralised critic; actors share weights and see only their UE's observation.

It follows Yu et al.'s practices (value normalisation, orthogonal initialisation, clipping, a falling learning rate) on
the merged sequence of all UEs' decisions, by default in copies with common arrivals: see returns.py. One update:
advantages and value targets of a rollout, then epochs of minibatches, each with a gradient step of actor and critic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from edgebrush.policies.folder import MLP

from ..networks import Actor, ActorInputs, Critic, fit_input_scale, new_actor, new_critic
from ..optimiser import Stats, TrainState, gradient_step, make_optimiser, new_train_state, select
from ..returns import gae, subtract_group_mean
from ..rollout import Array, Rollout
from ..trainer import SeedTraining, TrainingConfig


@dataclass(frozen=True)
class ActorCriticConfig(TrainingConfig):
    """Hyperparameters of MAPPO, IPPO and MAA2C; see ``TrainingConfig`` for the rest."""

    discount_per_s: NonNegativeFloat = 0.002
    epochs: PositiveInt = 1  # passes through a rollout
    minibatches: PositiveInt = 16  # per epoch
    entropy: NonNegativeFloat = 0.003  # weight of the entropy bonus
    normaliser_decay: NonNegativeFloat = 0.9  # of the running mean and deviation of the value targets
    max_grad_norm: PositiveFloat = 0.5  # of actor and critic each: one norm for both would starve the critic
    adam_eps: PositiveFloat = 1e-8
    critic_updates: NonNegativeInt = 5  # updates at the start in which only the critic learns
    actor_hidden: PositiveInt = 32
    critic_hidden: PositiveInt = 64
    deploy_inverse_temperature: PositiveFloat = 4.0  # multiplies the deployed policy's logits: training explores more

    def __post_init__(self) -> None:
        rows = self.groups * self.length
        if rows % self.minibatches:
            raise ValueError(f"minibatches = {self.minibatches}: must divide groups × length = {rows}")


@dataclass(frozen=True)
class MappoConfig(ActorCriticConfig):
    """Hyperparameters, named as in Yu et al. 2022."""

    epochs: PositiveInt = 3
    clip: PositiveFloat = 0.2


class Learner(NamedTuple):
    """Everything that learns, as one pytree."""

    actor: TrainState[Actor]
    critic: TrainState[Critic]  # of normalised values
    value_mean: jax.Array  # of the value targets
    value_deviation: jax.Array
    updates: jax.Array


class Batch(NamedTuple):
    """A rollout's decisions without their order in time: ``(B, ...)``, or ``(rows, copies, ...)``, see ``to_rows``."""

    inputs: ActorInputs  # of the actor
    states: Array  # (..., Z), as the critic has prepared them
    choices: Array
    log_probs: Array  # under the actor that collected the rollout
    advantages: Array
    targets: Array  # of the critic, normalised


AnyConfig = TypeVar("AnyConfig", bound=ActorCriticConfig)
ActorLoss = Callable[[Actor, Batch, AnyConfig], tuple[jax.Array, Stats]]


class ActorCriticTraining(SeedTraining):
    """The training of one seed of MAPPO, IPPO or MAA2C. An algorithm adds ``actor_loss``."""

    config: ActorCriticConfig
    learner: Learner
    actor_loss: ActorLoss

    def init_learner(self, rule_parameters: np.ndarray | None) -> Learner:
        """A new learner. Its networks get their input scales from a first rollout."""
        config, simulator = self.config, self.collector.simulator
        rng, bs_count = np.random.default_rng(self.seed), self.scenario.bs_count
        actor = new_actor(rng, simulator.layout, config.actor_hidden, bs_count, rule_parameters, config.network)
        rollout = self.collector.collect(actor)
        observations = rollout.observations.reshape(-1, simulator.layout.size)[::7]
        states = self.critic_inputs(rollout)
        critic = new_critic(rng, states.shape[-1], config.critic_hidden)
        optimiser = make_optimiser(config)
        return Learner(
            new_train_state(optimiser, fit_input_scale(actor, actor.raw_inputs(observations, np))),
            new_train_state(optimiser, fit_input_scale(critic, states)),
            jnp.zeros(()),
            jnp.ones(()),
            jnp.zeros((), jnp.int32),
        )

    def critic_inputs(self, rollout: Rollout) -> np.ndarray:
        """The critic's inputs at each decision and after the last one, ``(T + 1, E, n)``; by default global states."""
        return rollout.states

    def learn(self, rollout: Rollout, key: jax.Array, learning_rate: jax.Array) -> tuple[Learner, Stats]:
        rollout = rollout._replace(states=self.critic_inputs(rollout))
        return update(self.config, type(self).actor_loss, self.learner, rollout, key, learning_rate)

    @property
    def deployed(self) -> Actor:
        return self.actor.sharpened(jnp.float32(self.config.deploy_inverse_temperature))


@eqx.filter_jit(donate="all-except-first")
def update(
    config: AnyConfig,
    actor_loss: ActorLoss[AnyConfig],
    learner: Learner,
    rollout: Rollout,
    key: jax.Array,
    learning_rate: jax.Array,
) -> tuple[Learner, Stats]:
    """One update: all epochs and minibatches."""
    states = learner.critic.network.prepare(rollout.states)
    learner, advantages, targets, stats = compute_advantages(config, learner, rollout, states)
    batch = to_rows(learner.actor.network, rollout, states, advantages, targets, config.copies)
    optimiser = make_optimiser(config)

    def minibatch_step(learner: Learner, rows: jax.Array) -> tuple[Learner, Stats]:
        minibatch = take_rows(batch, rows)
        actor, actor_stats = gradient_step(actor_loss, learner.actor, learning_rate, optimiser, minibatch, config)
        actor = select(learner.updates >= config.critic_updates, actor, learner.actor)
        critic, critic_stats = gradient_step(critic_loss, learner.critic, learning_rate, optimiser, minibatch, config)
        return learner._replace(actor=actor, critic=critic), {**actor_stats, **critic_stats}

    def epoch(learner: Learner, key: jax.Array) -> tuple[Learner, Stats]:
        order = jax.random.permutation(key, len(batch.choices))
        return jax.lax.scan(minibatch_step, learner, order.reshape(config.minibatches, -1))

    learner, losses = jax.lax.scan(epoch, learner, jax.random.split(key, config.epochs))
    return learner._replace(updates=learner.updates + 1), {**jax.tree.map(jnp.mean, losses), **stats}


def compute_advantages(
    config: ActorCriticConfig, learner: Learner, rollout: Rollout, states: jax.Array
) -> tuple[Learner, jax.Array, jax.Array, Stats]:
    """The learner with its value normalisation updated, advantages and value targets ``(T, E)``, and stats.

    ``states`` are the rollout's, as the critic has prepared them. Advantages and targets are normalised. With copies,
    the group's mean is subtracted from both: the baseline takes what the copies have in common, and the critic learns
    how they *differ*.
    """
    length, episodes = rollout.rewards.shape
    outputs = learner.critic.network.outputs_of(states.reshape(-1, states.shape[-1]))
    normalised_values = outputs[:, 0].reshape(length + 1, episodes)
    values = learner.value_mean + learner.value_deviation * normalised_values
    advantages = gae(rollout.rewards, rollout.gaps_s, values, config.discount_per_s, config.trace_decay_per_s)
    targets = advantages + values[:-1]
    explained_variance = _explained_variance(values[:-1], targets, config.copies)
    if config.copies > 1:
        advantages = subtract_group_mean(advantages, config.copies)
        targets = subtract_group_mean(targets, config.copies)
    deviation = advantages.std()
    advantages = (advantages - advantages.mean()) / (deviation + 1e-8)
    learner = _update_value_normalisation(learner, targets, config.normaliser_decay)
    targets = (targets - learner.value_mean) / learner.value_deviation
    return learner, advantages, targets, {"explained_variance": explained_variance, "advantage_deviation": deviation}


def _explained_variance(values: jax.Array, targets: jax.Array, copies: int) -> jax.Array:
    if copies > 1:
        values, targets = subtract_group_mean(values, copies), subtract_group_mean(targets, copies)
    return 1.0 - jnp.var(targets - values) / jnp.maximum(jnp.var(targets), 1e-12)


def _update_value_normalisation(learner: Learner, targets: jax.Array, decay: float) -> Learner:
    """Update the targets' running mean and deviation; the critic's last layer keeps its values (PopArt).

    Hessel et al. 2019.
    """
    keep = jnp.where(learner.updates == 0, 0.0, decay)
    mean = keep * learner.value_mean + (1.0 - keep) * targets.mean()
    deviation = keep * learner.value_deviation + (1.0 - keep) * jnp.maximum(targets.std(), 1e-3)
    critic = learner.critic.network
    ratio = learner.value_deviation / deviation
    bias = (critic.b[-1] * learner.value_deviation + learner.value_mean - mean) / deviation
    critic = eqx.tree_at(lambda critic: (critic.w[-1], critic.b[-1]), critic, (critic.w[-1] * ratio, bias))
    return learner._replace(critic=learner.critic._replace(network=critic), value_mean=mean, value_deviation=deviation)


def to_rows(
    actor: Actor, rollout: Rollout, states: jax.Array, advantages: jax.Array, targets: jax.Array, copies: int
) -> Batch:
    """The rollout by row: a row is one task in all copies of its group. The arrays are ``(rows, copies, ...)``."""
    length, episodes = rollout.rewards.shape
    batch = Batch(
        jax.vmap(actor.prepare)(rollout.observations),
        states,
        rollout.choices,
        rollout.log_probs,
        advantages,
        targets,
    )
    return jax.tree.map(lambda x: x[:length].reshape(length * (episodes // copies), copies, *x.shape[2:]), batch)


def take_rows(batch: Batch, rows: jax.Array) -> Batch:
    """The minibatch of these rows, ``(rows × copies, ...)``."""
    return jax.tree.map(lambda x: x[rows].reshape(-1, *x.shape[2:]), batch)


def ppo_loss(actor: Actor, minibatch: Batch, config: MappoConfig) -> tuple[jax.Array, Stats]:
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


def critic_loss(critic: Critic, minibatch: Batch, config: ActorCriticConfig) -> tuple[jax.Array, Stats]:
    """Mean squared error of the values; with copies, without their group mean, as the targets."""
    values = critic.outputs_of(minibatch.states)[:, 0]
    if config.copies > 1:
        values = subtract_group_mean(values, config.copies)
    loss = jnp.mean((values - minibatch.targets) ** 2)
    return loss, {"value_loss": loss}


class Training(ActorCriticTraining):
    """The training of one seed of MAPPO; without copies it is plain MAPPO."""

    algorithm = "mappo"
    config: MappoConfig
    actor_loss = staticmethod(ppo_loss)

    @property
    def name(self) -> str:
        if self.config.network == MLP:
            return f"{self.algorithm}-published"
        return self.algorithm if self.config.copies > 1 else f"{self.algorithm}-plain"
