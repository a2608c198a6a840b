"""The policy of stochastic learning (MASL): for each context a probability vector over all actions.

A context is a coarse view of the observation: the task's urgency and difficulty, the device's speed, and the load of
each place, each in one of a few bins. A strategy holds a probability for each (place, step index, class); place 0 is
the own device, place j the j-th BS. Places that are not present are left out; the others keep their proportions.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from edgebrush.decision.action_space import ActionSpace
from edgebrush.decision.observation import DELAY_WEIGHT, DIFFICULTY, LOAD, NUMBER, PRESENT, STEP_S, ObservationLayout
from edgebrush.errors import UserError

from .actor import FORBIDDEN, draw_choice
from .protocol import Array, Weights

ABSENT = 1e9  # the load of a place that is full or not among the candidates
MIN_PROBABILITY = 1e-9


def features(layout: ObservationLayout, observations: Array, places: int, xp: ModuleType) -> Array:
    """The features of a context, ``(B, 3 + places)``: urgency, difficulty, the device's s per step, load by place."""
    task, candidates, _ = layout.split(observations)
    at = candidates[..., NUMBER, None] == xp.arange(places)
    known = at & (candidates[..., PRESENT, None] > 0.0)
    loads = xp.min(xp.where(known, candidates[..., LOAD, None], ABSENT), axis=1)
    own = xp.stack([task[:, DELAY_WEIGHT], task[:, DIFFICULTY], candidates[:, 0, STEP_S]], axis=-1)
    return xp.concatenate([own, loads], axis=-1)


def context_of(edges: Array, strides: Array, values: Array) -> Array:
    """The context index ``(B,)`` of features ``values (B, F)``; ``edges (F, n)`` between bins, ``strides (F,)``."""
    return ((values[..., None] > edges).sum(-1) * strides).sum(-1)


def place_of(layout: ObservationLayout, observations: Array) -> Array:
    """The place of each slot, ``(B, S)``."""
    _, candidates, _ = layout.split(observations)
    return candidates[..., NUMBER].astype(int)


def log_strategy(weights: Weights, layout: ObservationLayout, observations: Array, xp: ModuleType) -> Array:
    """Log-probabilities, up to a constant, of every action, ``(B, layout.action_space.count)``.

    ``weights``: ``strategies (contexts, places, K, P)``, ``edges (F, n)`` and ``strides (F,)``; ``xp`` is numpy or
    jax.numpy.
    """
    strategies = weights["strategies"]
    values = features(layout, observations, strategies.shape[1], xp)
    context = context_of(weights["edges"], weights["strides"], values)
    chosen = strategies[context[:, None], place_of(layout, observations)]  # (B, S, K, P)
    _, candidates, _ = layout.split(observations)
    present = candidates[..., PRESENT, None, None] > 0.0
    logs = xp.where(present, xp.log(xp.maximum(chosen, MIN_PROBABILITY)), FORBIDDEN)
    return logs.reshape(len(observations), layout.action_space.count)


class Automata:
    """Trained strategies as a ``Policy``, on NumPy."""

    def __init__(self, name: str, weights: Weights, space: ActionSpace):
        self.name, self.weights = name, weights
        self.layout = ObservationLayout(space)

    def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """See ``Policy.choose``."""
        actions: np.ndarray = draw_choice(log_strategy(self.weights, self.layout, observations, np), draws, np)
        return actions


def read(name: str, weights: Weights, space: ActionSpace, bs_count: int) -> Automata:
    """The strategies of a policy folder. Raises ``UserError`` if they are for another number of BSs."""
    known = weights["strategies"].shape[1] - 1
    if known != bs_count:
        raise UserError(f"{name}: its strategies are for {known} BSs, the scenario has {bs_count}; train one for it")
    return Automata(name, weights, space)
