"""What the on-policy learners share: advantages and targets of a batch, a critic's normalisation.

The merged sequence of all UEs' decisions is one semi-Markov process: each gap has its own discount. With ``copies``
above 1, episodes come in groups that share arrivals, tasks and channels while their decisions are drawn apart; so
decision n is the same task at the same moment in every copy, and the group's mean is an input-driven baseline (Mao
et al. 2019) that takes the arrivals' own noise out of the advantage. The critic then learns what *differs* between
the copies: the baseline takes the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from edgebrush.policies.actor import raw_inputs

from .networks import Actor, Critic, new_actor, new_critic, scaled, sharpened
from .rollout import Batch
from .trainer import SeedTraining

# (actor, observations, choices, old log-probabilities, advantages, config) -> the loss, and figures for the curve
ActorLoss = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]


class Learner(NamedTuple):
    """All that learns, as one pytree."""

    actor: Actor
    critic: Critic
    actor_state: optax.OptState
    critic_state: optax.OptState
    mean: jax.Array  # of the value targets
    deviation: jax.Array
    updates: jax.Array


def new_learner(config: Any, actor: Actor, critic: Critic) -> Learner:
    """A learner before its first update."""
    optimiser = make_optimiser(config)
    return Learner(
        actor,
        critic,
        optimiser.init(eqx.filter(actor, eqx.is_array)),
        optimiser.init(eqx.filter(critic, eqx.is_array)),
        jnp.zeros(()),
        jnp.ones(()),
        jnp.zeros((), jnp.int32),
    )


def make_optimiser(config: Any) -> optax.GradientTransformation:
    """Adam's direction after clipping; ``descend`` gives it its length, which falls with the training's progress."""
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=config.adam_eps))


def descend(network, step, rate):
    """The network after a step of length ``rate`` down the optimiser's direction."""
    return eqx.apply_updates(network, jax.tree.map(lambda x: -rate * x, step))


def select(condition, new, old):
    """``new`` where the condition holds, else ``old``, leaf by leaf."""
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old) if eqx.is_array(new) else new, new, old)


def gae(
    rewards: jax.Array, gaps_s: jax.Array, values: jax.Array, discount_per_s: float, trace_decay_per_s: float
) -> jax.Array:
    """Generalised advantages ``(T, E)`` (Schulman et al. 2016) with each gap's own discount and trace decay.

    ``values (T + 1, E)``: the last row is the bootstrap after the trace.
    """
    gammas = jnp.exp(-discount_per_s * gaps_s)
    lambdas = jnp.exp(-trace_decay_per_s * gaps_s)
    deltas = rewards + gammas * values[1:] - values[:-1]

    def backwards(advantage, row):
        delta, carry = row
        advantage = delta + carry * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(backwards, jnp.zeros_like(rewards[0]), (deltas, gammas * lambdas), reverse=True)
    return advantages


def less_group_mean(x: jax.Array, copies: int) -> jax.Array:
    """``x (..., E)`` less its mean over the copies of each group; the input-driven baseline (Mao et al. 2019)."""
    grouped = x.reshape(*x.shape[:-1], -1, copies)
    return (grouped - grouped.mean(-1, keepdims=True)).reshape(x.shape)


def judge(config: Any, learner: Learner, batch: Batch) -> tuple[Learner, jax.Array, jax.Array, dict[str, jax.Array]]:
    """What the critic says of a batch: the learner with its normaliser moved on, advantages and value targets
    ``(T, E)``, both normalised, and figures for the curve."""
    length, episodes = batch.rewards.shape
    states = batch.states.reshape(-1, batch.states.shape[-1])
    values = learner.mean + learner.deviation * learner.critic(states).reshape(length + 1, episodes)
    advantages = gae(batch.rewards, batch.gaps_s, values, config.discount_per_s, config.trace_decay_per_s)
    targets = advantages + values[:-1]
    explained_variance = _explained_variance(values[:-1], targets, config.copies)
    if config.copies > 1:
        advantages = less_group_mean(advantages, config.copies)
        targets = less_group_mean(targets, config.copies)
    deviation = advantages.std()
    advantages = (advantages - advantages.mean()) / (deviation + 1e-8)
    learner = _normalise_values(learner, targets, config.normaliser_decay)
    targets = (targets - learner.mean) / learner.deviation
    return learner, advantages, targets, {"explained_variance": explained_variance, "advantage_deviation": deviation}


def rows_of(batch: Batch, advantages: jax.Array, targets: jax.Array, copies: int) -> tuple[jax.Array, ...]:
    """Observations, states, choices, log-probabilities, advantages and targets by row: one task in all copies of a
    group, ``(rows, copies, ...)``."""
    length, episodes = batch.rewards.shape
    return jax.tree.map(
        lambda x: x[:length].reshape(length * (episodes // copies), copies, *x.shape[2:]),
        (batch.observations, batch.states, batch.choices, batch.log_probs, advantages, targets),
    )


def take(data: tuple[jax.Array, ...], index: jax.Array) -> tuple[jax.Array, ...]:
    """The rows of a minibatch, copies one after the other."""
    return jax.tree.map(lambda x: x[index].reshape(-1, *x.shape[2:]), data)


def critic_loss(critic, states, targets, copies):
    """Mean square error; with copies, of what differs between them (the targets have no group mean already)."""
    values = critic(states)
    if copies > 1:
        values = less_group_mean(values, copies)
    return jnp.mean((values - targets) ** 2)


def _explained_variance(values, targets, copies):
    if copies > 1:
        values, targets = less_group_mean(values, copies), less_group_mean(targets, copies)
    return 1.0 - jnp.var(targets - values) / jnp.maximum(jnp.var(targets), 1e-12)


def _normalise_values(learner: Learner, targets: jax.Array, decay: float) -> Learner:
    """Follow the targets' mean and deviation; the critic's last layer moves along (PopArt, Hessel et al. 2019)."""
    keep = jnp.where(learner.updates == 0, 0.0, decay)
    mean = keep * learner.mean + (1.0 - keep) * targets.mean()
    deviation = keep * learner.deviation + (1.0 - keep) * jnp.maximum(targets.std(), 1e-3)
    w, b = learner.critic.w, learner.critic.b
    ratio = learner.deviation / deviation
    critic = eqx.tree_at(
        lambda critic: (critic.w[-1], critic.b[-1]),
        learner.critic,
        (w[-1] * ratio, (b[-1] * learner.deviation + learner.mean - mean) / deviation),
    )
    return learner._replace(critic=critic, mean=mean, deviation=deviation)


def actor_critic_update(
    config: Any, learner: Learner, batch: Batch, keys: jax.Array, rate: jax.Array, actor_loss: ActorLoss
) -> tuple[Learner, dict[str, jax.Array]]:
    """One whole update at learning rate ``rate``: advantages, then a pass through the minibatches for each of ``keys``.

    Actor and critic descend apart; the actor begins after ``config.critic_updates``.
    """
    learner, advantages, targets, judged = judge(config, learner, batch)
    data = rows_of(batch, advantages, targets, config.copies)
    optimiser = make_optimiser(config)
    teach_actor = learner.updates >= config.critic_updates

    def minibatch(carry, index):
        actor, critic, actor_state, critic_state = carry
        observations, states, choices, log_probs, advantage, target = take(data, index)
        (_, stats), gradient = eqx.filter_value_and_grad(actor_loss, has_aux=True)(
            actor, observations, choices, log_probs, advantage, config
        )
        step, new_state = optimiser.update(gradient, actor_state)
        taught = descend(actor, step, rate)
        actor, actor_state = select(teach_actor, (taught, new_state), (actor, actor_state))
        loss, gradient = eqx.filter_value_and_grad(critic_loss)(critic, states, target, config.copies)
        step, critic_state = optimiser.update(gradient, critic_state)
        critic = descend(critic, step, rate)
        return (actor, critic, actor_state, critic_state), {**stats, "value_loss": loss}

    def epoch(carry, key):
        order = jax.random.permutation(key, len(data[0])).reshape(config.minibatches, -1)
        return jax.lax.scan(minibatch, carry, order)

    carry = (learner.actor, learner.critic, learner.actor_state, learner.critic_state)
    carry, stats = jax.lax.scan(epoch, carry, keys)
    stats = {**jax.tree.map(jnp.mean, stats), **judged}
    return Learner(*carry, learner.mean, learner.deviation, learner.updates + 1), stats


def check_minibatches(config: Any) -> None:
    """Raise ``ValueError`` where a batch does not fall into equal minibatches."""
    rows = config.groups * config.length
    if rows % config.minibatches:
        raise ValueError(f"minibatches = {config.minibatches}: must divide groups × length = {rows}")


class OnPolicyTraining(SeedTraining):
    """One seed's training of an on-policy learner; an algorithm gives it ``update``."""

    def start(self, numbers: np.ndarray | None) -> Any:
        """A new learner, its networks' input scales set by a first look at the world."""
        config, simulator = self.config, self.collector.simulator
        rng, grid = np.random.default_rng(self.seed), simulator.params.step_grid
        actor = new_actor(rng, simulator.layout, grid, config.actor_hidden, self.scenario.bs_count, numbers)
        batch = self.collector.collect(actor)
        observations = batch.observations.reshape(-1, simulator.layout.size)[::7]
        states = self.critic_inputs(batch)
        critic = new_critic(rng, states.shape[-1], config.critic_hidden)
        return new_learner(
            config, scaled(actor, raw_inputs(simulator.layout, observations, np)), scaled(critic, states)
        )

    def learn(self, batch: Batch, key: jax.Array, rate: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        return self.update(batch._replace(states=self.critic_inputs(batch)), key, rate)

    @property
    def deployed(self) -> Any:
        return sharpened(self.actor, jnp.float32(self.config.sharpness))

    def critic_inputs(self, batch: Batch) -> np.ndarray:
        """What the critic sees of the batch's decisions and of those after them, ``(T + 1, E, n)``."""
        return batch.states

    def update(self, batch: Batch, key: jax.Array, rate: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        """The learner after one update at learning rate ``rate``, and figures for the curve."""
        raise NotImplementedError
