"""A multilayer perceptron over the observation vector: the usual actor of the literature, for NumPy and JAX.

It sees what a UE sees: its task, its own device, and each candidate's link, server and reported load. It has no table
of expected costs and no prices, and its weights belong to one number of slots and of BSs.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from edgebrush.decision.action_space import ActionSpace
from edgebrush.decision.observation import NUMBER, PRESENT, TASK_FEATURES, ObservationLayout
from edgebrush.errors import UserError

from .actor import FORBIDDEN, draw_choice, scale_inputs
from .protocol import Array, Weights


def input_size(layout: ObservationLayout, bs_count: int) -> int:
    """Number of inputs: the task's features, and each candidate's with its BS one-hot."""
    return TASK_FEATURES + layout.action_space.slots * (layout.candidate_features + bs_count)


def raw_inputs(layout: ObservationLayout, observations: Array, bs_count: int, xp: ModuleType) -> Array:
    """The inputs before scaling, ``(B, input_size)``."""
    task, candidates, _ = layout.split(observations)
    which = (candidates[..., NUMBER, None] == xp.arange(1, bs_count + 1)).astype(observations.dtype)
    features = xp.where(xp.arange(candidates.shape[-1]) == NUMBER, 0.0, candidates)
    return xp.concatenate([task, xp.concatenate([features, which], axis=-1).reshape(len(task), -1)], axis=-1)


def forward(weights: Weights, x: Array, xp: ModuleType) -> Array:
    """The network's outputs ``(B, n)`` for scaled inputs ``(B, input_size)``."""
    x = xp.maximum(x @ weights["w_1"] + weights["b_1"], 0.0)
    x = xp.maximum(x @ weights["w_2"] + weights["b_2"], 0.0)
    return x @ weights["w_3"] + weights["b_3"]


def forbid_absent(layout: ObservationLayout, observations: Array, scores: Array, xp: ModuleType) -> Array:
    """Logits ``(B, C)``: the scores, or ``FORBIDDEN`` where the candidate is not present."""
    present = layout.split(observations)[1][..., PRESENT]
    return xp.where(xp.repeat(present, layout.action_space.per_slot, axis=-1) > 0, scores, FORBIDDEN)


class MlpActor:
    """A trained perceptron as a ``Policy``, on NumPy."""

    def __init__(self, name: str, weights: Weights, space: ActionSpace, bs_count: int):
        self.name, self.weights, self.bs_count = name, weights, bs_count
        self.layout = ObservationLayout(space)

    def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """See ``Policy.choose``."""
        raw = raw_inputs(self.layout, observations, self.bs_count, np)
        scores = forward(self.weights, scale_inputs(raw, self.weights["scale"], np), np)
        actions: np.ndarray = draw_choice(forbid_absent(self.layout, observations, scores, np), draws, np)
        return actions


def read(name: str, weights: Weights, space: ActionSpace, bs_count: int) -> MlpActor:
    """The perceptron of a policy folder. Raises ``UserError`` if it was trained for other numbers of slots or BSs."""
    check_inputs(name, len(weights["scale"]), input_size(ObservationLayout(space), bs_count), space, bs_count)
    return MlpActor(name, weights, space, bs_count)


def check_inputs(name: str, inputs: int, expected: int, space: ActionSpace, bs_count: int) -> None:
    """Raise ``UserError`` where a network has another number of inputs than the scenario makes."""
    if inputs != expected:
        raise UserError(
            f"policy {name!r}: its network has {inputs} inputs, but the scenario's {space.slots - 1} neighbours among "
            f"{bs_count} BSs make {expected}; train it on this scenario"
        )
