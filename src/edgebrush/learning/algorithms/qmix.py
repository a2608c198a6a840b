"""QMIX (Rashid et al. 2018): one value for a joint decision, a monotonic mix of D3QN's Qs of its deciders.

A joint decision is a window of successive deciders, see ``offpolicy.join_decisions``. The joint value increases with
each utility, so every UE's own best choice is part of the joint best. Hypernetworks make the mixing weights from the
global state. The mixing network has a linear path beside the hidden layer and starts as VDN, the plain sum. Targets are
Q(lambda), which Hu et al. 2021 found best, with double Q-learning.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import PositiveInt

from ..networks import Critic
from ..offpolicy import InitContext, JointConfig
from . import d3qn


@dataclass(frozen=True)
class QmixConfig(JointConfig):
    """Hyperparameters; see ``JointConfig`` for the rest."""

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


class Training(d3qn.Training):
    """The training of one seed of QMIX."""

    algorithm = "qmix"
    config: QmixConfig

    def new_mixer(self, context: InitContext, rng: np.random.Generator) -> Mixer:
        window, hidden = self.config.window, self.config.mixing_hidden
        hyper = context.new_network(rng, context.rollout.states, sum(mixer_sizes(window, hidden)))
        return Mixer(hyper, window, hidden)
