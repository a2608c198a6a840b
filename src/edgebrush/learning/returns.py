"""Returns and advantages of the team's decisions, with a discount that depends on each gap's length.

The merged sequence of all UEs' decisions is one semi-Markov process: the time between two decisions varies, so each
gap has its own discount ``exp(-discount_per_s * gap)`` and trace decay ``exp(-trace_decay_per_s * gap)``.

With ``copies`` above 1, episodes come in groups with common arrivals, tasks and channels, in which each copy makes its
own decisions. Decision n is the same task at the same time in every copy of a group, so the group's mean is an
input-driven baseline (Mao et al. 2019): it removes the noise of the arrivals from advantages and errors.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .trainer import TrainingConfig


def gae(
    rewards: jax.Array, gaps_s: jax.Array, values: jax.Array, discount_per_s: float, trace_decay_per_s: float
) -> jax.Array:
    """Generalised advantage estimates ``(T, E)`` (Schulman et al. 2016) from rewards and gaps ``(T, E)``.

    ``values (T + 1, E)``: the last row is the bootstrap after the trace.
    """
    gammas = jnp.exp(-discount_per_s * gaps_s)
    lambdas = jnp.exp(-trace_decay_per_s * gaps_s)
    deltas = rewards + gammas * values[1:] - values[:-1]

    def backwards(advantage: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        delta, carry = row
        advantage = delta + carry * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(backwards, jnp.zeros_like(rewards[0]), (deltas, gammas * lambdas), reverse=True)
    return advantages


def lambda_returns(
    config: TrainingConfig, rewards: jax.Array, gaps_s: jax.Array, values: jax.Array, horizon: int
) -> jax.Array:
    """Peng's Q(lambda) ``(G, T - horizon, C)`` from rewards, gaps and the targets' values, all ``(G, T, C)``.

    With an infinite ``trace_decay_per_s`` these are the one-step targets.
    """
    rewards, gaps_s, values = (x.swapaxes(0, 1) for x in (rewards, gaps_s, values))
    advantages = gae(rewards[:-1], gaps_s[:-1], values, config.discount_per_s, config.trace_decay_per_s)
    returns = (values[:-1] + advantages)[: len(values) - horizon]
    return jax.lax.stop_gradient(returns.swapaxes(0, 1))


def subtract_group_mean(x: jax.Array, copies: int) -> jax.Array:
    """``x (..., E)`` minus its mean over the copies of each group: the input-driven baseline (Mao et al. 2019)."""
    grouped = x.reshape(*x.shape[:-1], -1, copies)
    return (grouped - grouped.mean(-1, keepdims=True)).reshape(x.shape)
