"""QMIX (Rashid et al. 2018), and VDN (Sunehag et al. 2018) as its special case: one value for a joint decision.

A joint decision is a window of successive deciders, see ``offpolicy.join_decisions``. Each utility is D3QN's Q of the
local observation. The joint value mixes the utilities and increases with each of them, so every UE's own best choice is
part of the joint best. Hypernetworks make the mixing weights from the global state. The mixing network has a linear
path beside the hidden layer and starts as VDN, the plain sum. Targets are Q(lambda), which Hu et al. 2021 found best,
with double Q-learning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import PositiveInt

from ..networks import Actor, Critic
from ..offpolicy import (
    InitContext,
    JointConfig,
    QTraining,
    flatten_batch,
    join_decisions,
    learning_rates,
    q_step,
    scan_steps,
    take_along_choices,
    value_loss,
)
from ..optimiser import Stats, TrainState, make_optimiser, new_train_state, polyak_update
from ..replay_buffer import Sequences
from ..returns import lambda_returns
from .d3qn import Q, new_q


@dataclass(frozen=True)
class QmixConfig(JointConfig):
    """Hyperparameters; see ``JointConfig`` for the rest."""

    mixing: bool = True  # False: VDN
    mixing_hidden: PositiveInt = 16


class Mixer(eqx.Module):
    """The monotonic mixing network; the hypernetworks ``hyper`` make its weights from the state."""

    hyper: Critic
    window: int = eqx.field(static=True)
    hidden: int = eqx.field(static=True)

    def __call__(self, utilities: jax.Array, states: jax.Array) -> jax.Array:
        """Joint values ``(B,)`` of utilities ``(B, W)`` in states ``(B, Z)``."""
        outputs = self.hyper.outputs(states)
        ends = np.cumsum(mixer_sizes(self.window, self.hidden))[:-1]
        linear, first, bias, second, value = jnp.split(outputs, ends, axis=-1)
        first = jnp.abs(first).reshape(-1, self.window, self.hidden)
        hidden = jax.nn.elu((utilities[:, :, None] * first).sum(1) + bias)
        return (jnp.abs(1.0 + linear) * utilities).sum(-1) + (jnp.abs(second) * hidden).sum(-1) + value[:, 0]


def mixer_sizes(window: int, hidden: int) -> tuple[int, ...]:
    """Number of weights of each part: linear path, first layer, its bias, second layer, state value."""
    return window, window * hidden, hidden, hidden, 1


class JointQ(NamedTuple):
    """The value of a joint decision."""

    q: Q  # the utilities
    mixer: Mixer | None  # None: their sum

    def __call__(self, utilities: jax.Array, states: jax.Array) -> jax.Array:
        """Joint values ``(B,)`` of utilities ``(B, W)`` in states ``(B, Z)``."""
        return utilities.sum(-1) if self.mixer is None else self.mixer(utilities, states)


class Learner(NamedTuple):
    """Everything that learns, as one pytree."""

    actor: TrainState[Actor]
    value: TrainState[tuple[Critic, Mixer | None]]
    target: JointQ
    logit_cost: jax.Array
    updates: jax.Array

    @property
    def joint(self) -> JointQ:
        value, mixer = self.value.network
        return JointQ(Q(self.actor.network, value, self.logit_cost), mixer)


class Training(QTraining):
    """The training of one seed of QMIX or VDN."""

    config: QmixConfig
    learner: Learner

    @property
    def algorithm(self) -> str:  # type: ignore[override]
        return "qmix" if self.config.mixing else "vdn"

    def new_learner(self, context: InitContext, rng: np.random.Generator) -> Learner:
        config = self.config
        q, mixer = new_q(context, rng), None
        if config.mixing:
            outputs = sum(mixer_sizes(config.window, config.mixing_hidden))
            hyper = context.new_network(rng, context.rollout.states, outputs)
            mixer = Mixer(hyper, config.window, config.mixing_hidden)
        optimiser, target = make_optimiser(config), jax.tree.map(jnp.copy, JointQ(q, mixer))
        actor, value = new_train_state(optimiser, q.actor), new_train_state(optimiser, (q.value, mixer))
        return Learner(actor, value, target, q.logit_cost, jnp.zeros((), jnp.int32))

    def update(self, sequences: Sequences, keys: jax.Array, learning_rate: jax.Array) -> tuple[Learner, Stats]:
        return update(self.config, self.learner, sequences, learning_rate)


@eqx.filter_jit(donate="all-except-first")
def update(
    config: QmixConfig, learner: Learner, sequences: Sequences, learning_rate: jax.Array
) -> tuple[Learner, Stats]:
    """A gradient step on each of ``sequences (steps, G, T, C, ...)``."""
    rates = learning_rates(config, learner.updates, learning_rate)

    def step(learner: Learner, sequences: Sequences) -> tuple[Learner, Stats]:
        learner, stats = q_step(config, learner, sequences, rates, loss)
        return learner._replace(target=polyak_update(learner.target, learner.joint, config.target_share)), stats

    return scan_steps(step, learner, sequences)


def loss(
    networks: tuple[Actor, tuple[Critic, Mixer | None]], learner: Learner, sequences: Sequences, config: QmixConfig
) -> tuple[jax.Array, Stats]:
    """Squared error of the joint value against returns that bootstrap by double Q-learning, agent by agent."""
    actor, (value, mixer) = networks
    joint = JointQ(Q(actor, value, learner.logit_cost), mixer)
    joined = join_decisions(config, sequences)
    observations, shape = flatten_batch(joined.observations), joined.choices.shape  # (G, n, C, W)
    best = jax.lax.stop_gradient(joint.q)(observations).argmax(-1)
    utilities = take_along_choices(learner.target.q(observations), best).reshape(-1, config.window)
    bootstrap = learner.target(utilities, flatten_batch(joined.states)).reshape(shape[:-1])
    horizon = config.horizon // config.window
    returns = lambda_returns(config, joined.rewards, joined.gaps_s, bootstrap, horizon)
    learnt = jax.tree.map(lambda x: x[:, : shape[1] - horizon], joined)
    values = joint.q(flatten_batch(learnt.observations))
    utilities = take_along_choices(values, flatten_batch(learnt.choices, 0)).reshape(-1, config.window)
    return value_loss(config, joint(utilities, flatten_batch(learnt.states)).reshape(returns.shape), returns)
