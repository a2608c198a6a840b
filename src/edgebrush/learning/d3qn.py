"""Independent dueling double DQN: every UE learns alone, on its local observation, with shared weights and replay.

Q of a choice is a value of the local observation plus the actor's own form for the advantage (expected-cost table,
prices, a small network: policies/actor.py), so that it starts as minus the social cost under the tuned rule's prices
and a softmax of it acts as the other learners' actors do. Double DQN (van Hasselt et al. 2016), dueling (Wang et al.
2016), with Q(lambda) targets. "Next" is the merged sequence's next decision, whichever UE takes it: the UEs are one
team with one set of weights and one reward, the world is semi-Markov in that sequence, and a UE's own next decision
is some 20 decisions later. What makes the learners independent is that no value sees more than one UE's observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from .mappo import _descend, less_group_mean, make_optimiser
from .networks import Actor, Critic, dueling, new_actor, new_critic, scaled, towards, unit_of
from .offpolicy import OffPolicy
from .replay import Sequences, lambda_returns


@dataclass(frozen=True)
class D3qnConfig:
    seconds: float | None = None
    decisions: int = 3_000_000
    copies: int = 8
    groups: int = 32
    length: int = 128
    replay: int = 131_072
    gradient_steps: int = 32
    minibatch_groups: int = 2
    learning_rate: float = 1e-3
    max_grad_norm: float = 0.5
    adam_eps: float = 1e-8
    discount_per_s: float = 0.01
    trace_decay_per_s: float = 0.02
    horizon: int = 64
    target_share: float = 0.02
    value_rate: float = 3.0
    actor_rate: float = 1.0
    value_updates: int = 5
    greedy: bool = False
    episode_s: float = 600.0
    actor_hidden: int = 32
    critic_hidden: int = 64
    own_prices: bool = False


class Dueling(eqx.Module):
    """Q of every choice, from local observations."""

    actor: Actor
    value: Critic
    unit: jax.Array

    def __call__(self, observations):
        return dueling(self.actor(observations), self.value(observations), jax.lax.stop_gradient(self.unit))


class Learner(NamedTuple):
    q: Dueling
    target: Dueling
    actor_state: optax.OptState
    value_state: optax.OptState
    updates: jax.Array


def new_learner(config, look, rng) -> Learner:
    simulator = look.simulator
    layout, grid = simulator.layout, simulator.params.step_grid
    actor = scaled(
        new_actor(rng, layout, grid, config.actor_hidden, look.bs_count, look.numbers), look.candidate_scale
    )
    value = scaled(new_critic(rng, layout.size, config.critic_hidden, gain=0.01), look.observation_scale)
    q = Dueling(actor, value, unit_of(actor))
    optimiser = make_optimiser(config)
    return Learner(
        q, jax.tree.map(jnp.copy, q), optimiser.init(eqx.filter(actor, eqx.is_array)),
        optimiser.init(eqx.filter(value, eqx.is_array)), jnp.zeros((), jnp.int32),
    )


@eqx.filter_jit(donate="all-except-first")
def update(config, learner, sequences: Sequences, key, rate):
    teach_actor = learner.updates >= config.value_updates

    def gradient_step(learner, sequences):
        optimiser = make_optimiser(config)
        (_, stats), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(
            (learner.q.actor, learner.q.value), learner.q.unit, learner.target, sequences, config
        )
        step, actor_state = optimiser.update(gradient[0], learner.actor_state)
        actor = _descend(learner.q.actor, step, config.actor_rate * rate * teach_actor)
        step, value_state = optimiser.update(gradient[1], learner.value_state)
        value = _descend(learner.q.value, step, config.value_rate * rate)
        q = Dueling(actor, value, learner.q.unit)
        target = towards(learner.target, q, config.target_share)
        return Learner(q, target, actor_state, value_state, learner.updates), stats

    learner, stats = jax.lax.scan(gradient_step, learner, sequences)
    return learner._replace(updates=learner.updates + 1), jax.tree.map(jnp.mean, stats)


def loss(networks, unit, target, sequences, config):
    actor, value = networks
    shape = sequences.choices.shape
    observations = sequences.observations.reshape(-1, sequences.observations.shape[-1])
    q = Dueling(actor, value, unit)(observations)
    best = jax.lax.stop_gradient(q.argmax(-1))
    bootstrap = pick(target(observations), best).reshape(shape)
    returns = lambda_returns(
        sequences.rewards, sequences.gaps_s, bootstrap, config.discount_per_s, config.trace_decay_per_s
    )
    chosen = pick(q, sequences.choices.reshape(-1)).reshape(shape)[:, :-1]
    kept = shape[1] - config.horizon
    returns = returns[:, :kept]
    error = chosen[:, :kept] - jax.lax.stop_gradient(returns)
    if config.copies > 1:
        error = less_group_mean(error, config.copies)
        returns = less_group_mean(returns, config.copies)
    squared = (error**2).mean()
    return squared, {"q_loss": squared, "explained_variance": 1 - squared / returns.var()}


def pick(x, choices):
    return jnp.take_along_axis(x, choices[:, None], axis=-1)[:, 0]


class Training(OffPolicy):
    name = "d3qn"
    new_learner, update = staticmethod(new_learner), staticmethod(update)

    def policy(self, config, learner):
        return learner.q.actor

    def deployed(self, config, learner):
        return learner.q.actor
