"""The strategies of stochastic learning, on arrays alone: in each context a probability vector over all choices.

A context is what the UE knows, coarsely: how urgent and how difficult the task is, how fast the phone, and the load of
every place, each in one of a few bins. A strategy holds a probability for each (place, steps, class); place 0 is the
own device, place j the j-th BS. What is not present is left out and the rest keeps its proportions.
"""

from __future__ import annotations

import numpy as np

from edgebrush.decision.action_space import ActionSpace
from edgebrush.decision.observation import DELAY_WEIGHT, DIFFICULTY, LOAD, NUMBER, PRESENT, STEP_S, ObservationLayout
from edgebrush.errors import UserError

from .actor import FORBIDDEN, draw_choice

ABSENT = 1e9  # the load of a place that is full or not heard
LEAST = 1e-9  # probabilities below it count as it


def features(layout: ObservationLayout, observations, places: int, xp):
    """What contexts are made of, ``(B, 3 + places)``: urgency, difficulty, the phone's s per step, loads by place."""
    task, candidates, _ = layout.split(observations)
    at = candidates[..., NUMBER, None] == xp.arange(places)
    known = at & (candidates[..., PRESENT, None] > 0.0)
    loads = xp.min(xp.where(known, candidates[..., LOAD, None], ABSENT), axis=1)
    own = xp.stack([task[:, DELAY_WEIGHT], task[:, DIFFICULTY], candidates[:, 0, STEP_S]], axis=-1)
    return xp.concatenate([own, loads], axis=-1)


def context_of(edges, strides, found, xp):
    """The number of the context, ``(B,)``, of features ``found (B, F)``; ``edges (F, n)`` between their bins."""
    return ((found[..., None] > edges).sum(-1) * strides).sum(-1)


def place_of(layout: ObservationLayout, observations):
    """The place in each slot, ``(B, S)``."""
    _, candidates, _ = layout.split(observations)
    return candidates[..., NUMBER].astype(int)


def log_strategy(weights, layout: ObservationLayout, observations, xp):
    """Log-probabilities up to a constant of every joint choice, ``(B, layout.action_space.count)``.

    ``weights``: ``strategies (contexts, places, K, P)``, ``edges (F, n)`` and ``strides (F,)``; ``xp`` is numpy or
    jax.numpy.
    """
    strategies = weights["strategies"]
    found = features(layout, observations, strategies.shape[1], xp)
    context = context_of(weights["edges"], weights["strides"], found, xp)
    chosen = strategies[context[:, None], place_of(layout, observations)]  # (B, S, K, P)
    _, candidates, _ = layout.split(observations)
    present = candidates[..., PRESENT, None, None] > 0.0
    logs = xp.where(present, xp.log(xp.maximum(chosen, LEAST)), FORBIDDEN)
    return logs.reshape(len(observations), layout.action_space.count)


class Automata:
    """Strategies as a policy, see ``Policy``: local observations in, joint choices out, by NumPy."""

    def __init__(self, name: str, weights: dict[str, np.ndarray], space: ActionSpace):
        self.name, self.weights = name, weights
        self.layout = ObservationLayout(space)

    def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """See ``Policy.choose``."""
        return draw_choice(log_strategy(self.weights, self.layout, observations, np), draws, np)


def read(name: str, weights: dict[str, np.ndarray], space: ActionSpace, bs_count: int) -> Automata:
    """The automata of a policy folder. Raises ``UserError`` where the scenario has other BSs than they know."""
    known = weights["strategies"].shape[1] - 1
    if known != bs_count:
        raise UserError(f"{name}: its strategies are for {known} BSs, the scenario has {bs_count}; train one for it")
    return Automata(name, weights, space)
