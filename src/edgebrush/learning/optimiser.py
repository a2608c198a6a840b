"""Gradient steps that all learners share: Adam per network, learning rates that fall, target networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

Network = TypeVar("Network")
Tree = TypeVar("Tree")
Stats = dict[str, jax.Array]  # figures for the learning curve


class OptimiserConfig(Protocol):
    """The fields of a config that an optimiser reads."""

    @property
    def max_grad_norm(self) -> float: ...

    @property
    def adam_eps(self) -> float: ...


class TrainState(NamedTuple, Generic[Network]):
    """A network, any pytree, and the state of its optimiser."""

    network: Network
    opt_state: optax.OptState

    def apply_gradient(
        self, optimiser: optax.GradientTransformation, gradient: Network, learning_rate: jax.Array
    ) -> TrainState[Network]:
        """The state after one optimiser step."""
        direction, opt_state = optimiser.update(gradient, self.opt_state)  # type: ignore[arg-type]
        return TrainState(apply_step(self.network, direction, learning_rate), opt_state)


def make_optimiser(config: OptimiserConfig) -> optax.GradientTransformation:
    """Clipping, then Adam's direction; ``apply_step`` multiplies it by the learning rate, which falls to 0."""
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=config.adam_eps))


def new_train_state(optimiser: optax.GradientTransformation, network: Network) -> TrainState[Network]:
    """A network before its first step."""
    return TrainState(network, optimiser.init(eqx.filter(network, eqx.is_array)))


def apply_step(network: Network, direction: Any, learning_rate: jax.Array) -> Network:
    """The network after a step of length ``learning_rate`` against the optimiser's direction."""
    return eqx.apply_updates(network, jax.tree.map(lambda x: -learning_rate * x, direction))


def gradient_step(
    loss: Callable[..., tuple[jax.Array, Stats]],
    states: Tree,
    learning_rates: Any,
    optimiser: optax.GradientTransformation,
    *arguments: Any,
) -> tuple[Tree, Stats]:
    """One optimiser step on ``loss(networks, *arguments)``: the new ``states``, and the loss's stats.

    ``states`` is a ``TrainState`` or a tuple of them, ``networks`` and ``learning_rates`` follow its structure. Each
    network has its own optimiser state, gradient clipping and learning rate.
    """
    networks = _map_states(lambda state: state.network, states)
    (_, stats), gradients = eqx.filter_value_and_grad(loss, has_aux=True)(networks, *arguments)
    step = _map_states(
        lambda state, gradient, rate: state.apply_gradient(optimiser, gradient, rate), states, gradients, learning_rates
    )
    return step, stats


def _map_states(function: Callable[..., Any], states: Any, *rest: Any) -> Any:
    return jax.tree.map(function, states, *rest, is_leaf=lambda x: isinstance(x, TrainState))


def polyak_update(target: Tree, online: Tree, share: float) -> Tree:
    """The target network, moved by ``share`` of the way to the online network (Polyak averaging)."""
    return jax.tree.map(lambda old, new: old + share * (new - old), target, online)


def select(condition: jax.Array, new: Tree, old: Tree) -> Tree:
    """``new`` where the condition holds, else ``old``, leaf by leaf."""
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old) if eqx.is_array(new) else new, new, old)
