"""QMIX (Rashid et al. 2018), and VDN (Sunehag et al. 2018) as its simple case: one value for a joint decision.

A joint decision is a window of successive deciders (offpolicy.py says why). Each utility is D3QN's Q of the local
observation; the joint value mixes them so that it grows with each, by weights that hypernetworks make from the global
state, so that every UE's own best choice is part of the joint best. The mixing network has a linear path beside the
hidden layer and starts as VDN, the plain sum. Q(lambda) targets as Hu et al. 2021 found best; double Q-learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from pydantic import PositiveInt

from ..networks import Actor, Critic, sharpened, towards
from ..offpolicy import (
    Look,
    OffPolicyConfig,
    OffPolicyTraining,
    check_window,
    lambda_returns,
    pick,
    rows,
    squared_error,
    windows,
)
from ..onpolicy import descend, make_optimiser
from ..replay_buffer import Sequences
from .d3qn import Q, new_q


@dataclass(frozen=True)
class QmixConfig(OffPolicyConfig):
    """Hyperparameters; see ``OffPolicyConfig`` for the rest."""

    window: PositiveInt = 4  # deciders of a joint decision
    mixing: bool = True  # False: VDN
    mixing_hidden: PositiveInt = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self)


class Mixer(eqx.Module):
    """The monotonic mixing network; ``hyper`` makes its weights from the state."""

    hyper: Critic
    window: int = eqx.field(static=True)
    hidden: int = eqx.field(static=True)

    def __call__(self, utilities: jax.Array, states: jax.Array) -> jax.Array:
        """Joint values ``(B,)`` of utilities ``(B, W)`` in states ``(B, Z)``."""
        window, hidden = self.window, self.hidden
        said = self.hyper.outputs(states)
        linear, first, bias, second, value = jnp.split(said, np.cumsum(sizes(window, hidden))[:-1], axis=-1)
        first = jnp.abs(first).reshape(-1, window, hidden)
        inside = jax.nn.elu((utilities[:, :, None] * first).sum(1) + bias)
        return (jnp.abs(1.0 + linear) * utilities).sum(-1) + (jnp.abs(second) * inside).sum(-1) + value[:, 0]


def sizes(window: int, hidden: int) -> tuple[int, ...]:
    """How many numbers the hypernetworks give to each part of the mixing network."""
    return window, window * hidden, hidden, hidden, 1


class Joint(NamedTuple):
    """What gives a joint decision its value."""

    q: Q  # the utilities
    mixer: Mixer | None  # None: their sum

    def __call__(self, utilities: jax.Array, states: jax.Array) -> jax.Array:
        return utilities.sum(-1) if self.mixer is None else self.mixer(utilities, states)


class Learner(NamedTuple):
    """All that learns, as one pytree."""

    joint: Joint
    target: Joint
    actor_state: optax.OptState
    value_state: optax.OptState
    updates: jax.Array


class Training(OffPolicyTraining):
    """One seed's training of QMIX or VDN."""

    @property
    def name(self) -> str:  # type: ignore[override]
        return "qmix" if self.config.mixing else "vdn"

    def new_learner(self, look: Look, rng: np.random.Generator) -> Learner:
        config = self.config
        q, mixer = new_q(config, look, rng), None
        if config.mixing:
            outputs = sum(sizes(config.window, config.mixing_hidden))
            hyper = look.new_value(rng, look.batch.states, config.critic_hidden, outputs)
            mixer = Mixer(hyper, config.window, config.mixing_hidden)
        joint, optimiser = Joint(q, mixer), make_optimiser(config)
        return Learner(
            joint,
            jax.tree.map(jnp.copy, joint),
            optimiser.init(eqx.filter(q.actor, eqx.is_array)),
            optimiser.init(eqx.filter((q.value, mixer), eqx.is_array)),
            jnp.zeros((), jnp.int32),
        )

    def update(self, sequences: Sequences, keys: jax.Array, rate: jax.Array) -> tuple[Learner, dict[str, jax.Array]]:
        return update(self.config, self.learner, sequences, rate)

    @property
    def actor(self) -> Actor:
        return self.learner.joint.q.actor

    @property
    def deployed(self) -> Actor:
        return sharpened(self.actor, self.learner.joint.q.unit / self.config.temperature)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: QmixConfig, learner: Learner, sequences: Sequences, rate: jax.Array
) -> tuple[Learner, dict[str, jax.Array]]:
    """A gradient step on each of ``sequences (steps, G, T, C, ...)``, at learning rate ``rate``."""
    optimiser = make_optimiser(config)
    actor_rate = rate * (learner.updates >= config.value_updates)

    def gradient_step(learner, sequences):
        (q, mixer), target, actor_state, value_state, updates = learner
        (_, stats), (of_actor, of_values) = eqx.filter_value_and_grad(loss, has_aux=True)(
            (q.actor, (q.value, mixer)), q.unit, target, sequences, config
        )
        step, actor_state = optimiser.update(of_actor, actor_state)
        actor = descend(q.actor, step, actor_rate)
        step, value_state = optimiser.update(of_values, value_state)
        value, mixer = descend((q.value, mixer), step, config.value_speed * rate)
        joint = Joint(Q(actor, value, q.unit), mixer)
        return Learner(joint, towards(target, joint, config.target_share), actor_state, value_state, updates), stats

    learner, stats = jax.lax.scan(gradient_step, learner, sequences)
    return learner._replace(updates=learner.updates + 1), jax.tree.map(jnp.mean, stats)


def loss(networks, unit, target, sequences, config):
    """Squared error of the joint value against returns that bootstrap by double Q-learning, agent by agent."""
    actor, (value, mixer) = networks
    joint = Joint(Q(actor, value, unit), mixer)
    joined = windows(config, sequences)
    observations, shape = rows(joined.observations), joined.choices.shape  # (G, n, C, W)
    best = jax.lax.stop_gradient(joint.q)(observations).argmax(-1)
    utilities = pick(target.q(observations), best).reshape(-1, config.window)
    bootstrap = target(utilities, rows(joined.states)).reshape(shape[:-1])
    horizon = config.horizon // config.window
    returns = lambda_returns(config, joined.rewards, joined.gaps_s, bootstrap, horizon)
    learnt = jax.tree.map(lambda x: x[:, : shape[1] - horizon], joined)
    utilities = pick(joint.q(rows(learnt.observations)), rows(learnt.choices, 0)).reshape(-1, config.window)
    return squared_error(config, joint(utilities, rows(learnt.states)).reshape(returns.shape), returns)
