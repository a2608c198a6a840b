"""The trained actor: the priced greedy rule's score plus a small network, for NumPy (a UE) and JAX (the learners).

The actor scores each action as the priced greedy rule does, with learnt prices, and adds the output of a network. The
network embeds each candidate from the features of the candidate and of the task, and mixes in the mean over all
candidates (deep sets, Zaheer et al. 2017). So one set of weights serves any number of UEs and BSs.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from edgebrush.decision.action_space import ActionSpace
from edgebrush.decision.observation import (
    CANDIDATE_FEATURES,
    DELAY_WEIGHT,
    FIXED_S,
    IN_FLIGHT,
    LOAD,
    NUMBER,
    PRESENT,
    SERVER_STEP_S,
    TASK_FEATURES,
    WAIT_S,
    ObservationLayout,
)

from .pricing import effective_load, server_price, server_seconds
from .protocol import Array, Weights

FORBIDDEN = -1e9  # the logit of an action whose candidate is not present


def input_size(space: ActionSpace) -> int:
    """Number of network inputs per candidate."""
    return 1 + TASK_FEATURES + CANDIDATE_FEATURES + space.classes + space.per_slot


def output_size(space: ActionSpace) -> int:
    """Number of network outputs per candidate: a score per (steps, class), a price per class."""
    return (space.grid_size + 1) * space.classes


def raw_inputs(layout: ObservationLayout, observations: Array, xp: ModuleType) -> Array:
    """The network's inputs before scaling, ``(B, S, input_size)``."""
    space = layout.action_space
    task, candidates, cost = layout.split(observations)
    batch = observations.shape[0]
    is_own = (xp.arange(space.slots) == 0).astype(observations.dtype)
    own = xp.broadcast_to(is_own[None, :, None], (batch, space.slots, 1))
    tasks = xp.broadcast_to(task[:, None, :], (batch, space.slots, TASK_FEATURES))
    present = candidates[..., PRESENT, None, None]
    cheapest = xp.min(xp.where(present > 0, cost, xp.inf), axis=(1, 2, 3), keepdims=True)
    above = xp.where(present > 0, cost - xp.where(xp.isfinite(cheapest), cheapest, 0.0), 0.0)
    above = above.reshape(batch, space.slots, space.per_slot)
    candidates = xp.where(xp.arange(candidates.shape[-1]) == NUMBER, 0.0, candidates)
    return xp.concatenate([own, tasks, candidates, above], axis=-1)


def logits(weights: Weights, layout: ObservationLayout, observations: Array, xp: ModuleType) -> Array:
    """Log-probabilities, up to a constant, of every action, ``(B, layout.action_space.count)``.

    ``xp`` is numpy or jax.numpy, as in all functions here.
    """
    inputs = scale_inputs(raw_inputs(layout, observations, xp), weights["scale"], xp)
    return combine_logits(weights, layout, observations, forward(weights, inputs, xp), xp)


def combine_logits(
    weights: Weights, layout: ObservationLayout, observations: Array, outputs: Array, xp: ModuleType
) -> Array:
    """The logits, from the network's ``outputs (B, S, output_size)`` and the priced expected cost."""
    space = layout.action_space
    task, candidates, cost = layout.split(observations)
    # The choices at a candidate stay on one axis, (B, S, K x P): a last axis of P classes alone is slow on CPUs.
    each_steps = xp.asarray(np.tile(np.eye(space.classes, dtype=np.float32), space.grid_size))  # (P, K x P)
    steps = xp.asarray(np.repeat(np.array(space.step_grid, np.float32), space.classes))
    server_s = server_seconds(candidates[..., FIXED_S, None], candidates[..., SERVER_STEP_S, None], steps)
    price = _price(weights, candidates, xp)[..., None] + outputs[..., : space.classes]  # (B, S, P)
    waits_s = candidates[..., WAIT_S : WAIT_S + space.classes]
    waiting = weights["wait_factor"] * (task[:, None, DELAY_WEIGHT, None] * waits_s)
    social = cost.reshape(*server_s.shape) + (price @ each_steps) * server_s + waiting @ each_steps
    urgent = xp.log(task[:, DELAY_WEIGHT] + 1e-6) - weights["log_urgency"]
    rank = xp.asarray(np.tile(np.linspace(0.5, -0.5, space.classes) if space.classes > 1 else [0.0], space.grid_size))
    out = outputs[..., space.classes :] - xp.exp(weights["log_kappa"]) * social
    out = out + (weights["class_slope"] * urgent)[:, None, None] * rank
    return xp.where(candidates[..., PRESENT, None] > 0, out, FORBIDDEN).reshape(observations.shape[0], space.count)


def _price(weights: Weights, candidates: Array, xp: ModuleType) -> Array:
    """Price of a server-second at each candidate, ``(B, S)``."""
    number = candidates[..., NUMBER].astype(int) - 1  # -1: the own device
    load = candidates[..., LOAD]
    known = xp.maximum(number, 0)
    bs_load = effective_load(load, weights["in_flight"], candidates[..., IN_FLIGHT])
    bs = server_price(weights["prices"][known], weights["growth"][known], bs_load)
    return xp.where(number < 0, server_price(weights["price_own"], weights["growth_own"], load), bs)


def scale_inputs(inputs: Array, scale: Array, xp: ModuleType) -> Array:
    """The network's inputs, compressed: linear up to ``scale``, logarithmic beyond it."""
    return xp.arcsinh(inputs / scale)


def forward(weights: Weights, inputs: Array, xp: ModuleType) -> Array:
    """The network's outputs ``(B, S, output_size)`` for scaled ``inputs (B, S, n)``."""
    return head(weights, first_layer(weights, inputs, slice(None), xp), xp)


def first_layer(weights: Weights, inputs: Array, which: slice, xp: ModuleType) -> Array:
    """The first layer's sums ``(B, S, hidden)`` over scaled ``inputs (B, S, n)``, the columns ``which`` of all."""
    return (inputs.reshape(-1, inputs.shape[-1]) @ weights["w_in"][which]).reshape(*inputs.shape[:-1], -1)


def head(weights: Weights, x: Array, xp: ModuleType) -> Array:
    """The network's outputs, from the first layer's sums ``(B, S, hidden)``."""
    batch, slots, _ = x.shape
    x = xp.maximum(x.reshape(batch * slots, -1) + weights["b_in"], 0.0)
    x = xp.maximum(x @ weights["w_embed"] + weights["b_embed"], 0.0)
    mean = x.reshape(batch, slots, -1).mean(axis=1)
    mixed = x @ weights["w_self"] + xp.repeat(mean @ weights["w_mean"], slots, axis=0)
    x = xp.maximum(mixed + weights["b_mix"], 0.0)
    return (x @ weights["w_out"] + weights["b_out"]).reshape(batch, slots, -1)


def draw_choice(scores: Array, draws: Array, xp: ModuleType) -> Array:
    """One action per row of ``scores (B, C)``, drawn from its softmax by inversion of ``draws (B,)`` in (0, 1)."""
    weight = xp.exp(scores - scores.max(axis=-1, keepdims=True))
    cumulative = xp.cumsum(weight, axis=-1)
    return xp.minimum((cumulative < draws[:, None] * cumulative[:, -1:]).sum(axis=-1), scores.shape[-1] - 1)


class Actor:
    """A trained actor as a ``Policy``, on NumPy."""

    def __init__(self, name: str, weights: Weights, space: ActionSpace):
        self.name, self.weights = name, weights
        self.layout = ObservationLayout(space)

    def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """See ``Policy.choose``."""
        actions: np.ndarray = draw_choice(logits(self.weights, self.layout, observations, np), draws, np)
        return actions


def read(name: str, weights: Weights, space: ActionSpace, bs_count: int) -> Actor:
    """The actor of a policy folder, for a scenario with so many BSs."""
    return Actor(name, prices_for(weights, bs_count), space)


def prices_for(weights: Weights, bs_count: int) -> Weights:
    """The weights for so many BSs. If the actor was trained with another number, every BS gets the mean price."""
    if len(weights["prices"]) == bs_count:
        return weights
    means = {name: np.full(max(bs_count, 1), weights[name].mean(), np.float32) for name in ("prices", "growth")}
    return {**weights, **means}
