"""The policy of D2SAC (Du et al. 2023): a diffusion model whose denoised output is the logits.

``STEPS`` steps of the reverse diffusion (Ho et al. 2020, variance-preserving schedule of Xiao et al. 2022) lead from
Gaussian noise to a score for each action. The denoiser is the trained actor's network with the noisy scores and the
step as further inputs; it predicts the clean scores. Its outputs in the last step join the priced expected cost as in
actor.py. All noise is a hash of the decision's uniform draw, so a decision is reproducible and independent of others.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from edgebrush.decision.action_space import ActionSpace
from edgebrush.decision.observation import ObservationLayout

from . import actor, mlp
from .actor import draw_choice
from .protocol import Array, Weights

STEPS = 5
BETA_MIN, BETA_MAX = 0.1, 10.0
_STEP = np.arange(1, STEPS + 1)
ALPHAS = np.exp(-BETA_MIN / STEPS - 0.5 * (BETA_MAX - BETA_MIN) * (2 * _STEP - 1) / STEPS**2)
ALPHAS_CUMPROD = np.cumprod(ALPHAS)


def input_size(space: ActionSpace) -> int:
    """Number of denoiser inputs per candidate: the actor's, the noisy scores, the step one-hot."""
    return actor.input_size(space) + space.per_slot + STEPS


def logits(weights: Weights, layout: ObservationLayout, observations: Array, noise: Array, xp: ModuleType) -> Array:
    """Log-probabilities, up to a constant, of every action, ``(B, C)``.

    ``noise (B, STEPS, C)`` is standard normal; ``xp`` is numpy or jax.numpy.
    """
    space, batch = layout.action_space, len(observations)
    raw = actor.raw_inputs(layout, observations, xp)
    noise = noise.reshape(batch, STEPS, space.slots, space.per_slot)
    first, noisy, at = slice(raw.shape[-1]), slice(raw.shape[-1], -STEPS), weights["w_in"][-STEPS:]
    inputs = actor.scale_inputs(raw, weights["scale"][first], xp)
    known = actor.first_layer(weights, inputs, first, xp)  # the same in all steps
    x = noise[:, STEPS - 1]
    for t in reversed(range(STEPS)):
        scores = actor.scale_inputs(x, weights["scale"][noisy], xp)
        outputs = actor.head(weights, known + actor.first_layer(weights, scores, noisy, xp) + at[t], xp)
        if t:
            x = _posterior_mean(x, outputs[..., space.classes :], t) + _posterior_std(t) * noise[:, t - 1]
    combined = actor.combine_logits(weights, layout, observations, outputs, xp)
    return xp.exp(weights["log_sharpness"]) * combined


def mlp_input_size(layout: ObservationLayout, bs_count: int) -> int:
    """Number of inputs of a perceptron as the denoiser: those of mlp.py, the noisy scores, the step one-hot."""
    return mlp.input_size(layout, bs_count) + layout.action_space.count + STEPS


def mlp_logits(
    weights: Weights, layout: ObservationLayout, observations: Array, noise: Array, bs_count: int, xp: ModuleType
) -> Array:
    """``logits`` with a perceptron as the denoiser, which sees no expected costs."""
    raw = mlp.raw_inputs(layout, observations, bs_count, xp)
    known = actor.scale_inputs(raw, weights["scale"][: raw.shape[-1]], xp)
    x = noise[:, STEPS - 1]
    for t in reversed(range(STEPS)):
        step = xp.broadcast_to(xp.arange(STEPS) == t, (len(x), STEPS)).astype(x.dtype)
        clean = mlp.forward(weights, xp.concatenate([known, x, step], axis=-1), xp)
        if t:
            x = _posterior_mean(x, clean, t) + _posterior_std(t) * noise[:, t - 1]
    return mlp.forbid_absent(layout, observations, xp.exp(weights["log_sharpness"]) * clean, xp)


def _posterior_mean(x: Array, clean: Array, t: int) -> Array:
    """Mean of the scores one step less noisy than ``x`` at step ``t`` of 0..STEPS-1, given the predicted clean ones."""
    alpha, cumulative, before = float(ALPHAS[t]), float(ALPHAS_CUMPROD[t]), float(ALPHAS_CUMPROD[t - 1])
    return (before**0.5 * (1.0 - alpha) * clean + alpha**0.5 * (1.0 - before) * x) / (1.0 - cumulative)


def _posterior_std(t: int) -> float:
    return float(((1.0 - ALPHAS[t]) * (1.0 - ALPHAS_CUMPROD[t - 1]) / (1.0 - ALPHAS_CUMPROD[t])) ** 0.5)


def noise_from_draws(draws: Array, count: int, xp: ModuleType) -> Array:
    """Standard normal numbers ``(B, STEPS, count)``, a hash of ``draws (B,)`` in [0, 1) (Box-Muller transform)."""
    seeds = (draws.astype(np.float32) * np.float32(2**24)).astype(np.uint32)[:, None]
    numbers = xp.arange(2 * STEPS * count, dtype=np.uint32)[None]
    uniforms = (_murmur_mix(_murmur_mix(seeds) ^ numbers).astype(np.float32) + 0.5) * np.float32(2.0**-32)
    radius, turn = uniforms[:, ::2], uniforms[:, 1::2]
    normal = xp.sqrt(-2.0 * xp.log(radius)) * xp.cos(np.float32(2.0 * np.pi) * turn)
    return normal.reshape(-1, STEPS, count)


def _murmur_mix(x: Array) -> Array:
    """The finaliser of MurmurHash3 (Appleby), on uint32 arrays."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


class DiffusionActor:
    """A trained diffusion model as a ``Policy``, on NumPy."""

    def __init__(self, name: str, weights: Weights, space: ActionSpace):
        self.name, self.weights = name, weights
        self.layout = ObservationLayout(space)

    def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """See ``Policy.choose``."""
        noise = noise_from_draws(draws, self.layout.action_space.count, np)
        actions: np.ndarray = draw_choice(self.logits(observations, noise), draws, np)
        return actions

    def logits(self, observations: np.ndarray, noise: np.ndarray) -> Array:
        """Logits ``(B, C)`` denoised from ``noise (B, STEPS, C)``."""
        return logits(self.weights, self.layout, observations, noise, np)


class MlpDiffusionActor(DiffusionActor):
    """A trained diffusion model whose denoiser is a perceptron, as a ``Policy``, on NumPy."""

    def __init__(self, name: str, weights: Weights, space: ActionSpace, bs_count: int):
        super().__init__(name, weights, space)
        self.bs_count = bs_count

    def logits(self, observations: np.ndarray, noise: np.ndarray) -> Array:
        return mlp_logits(self.weights, self.layout, observations, noise, self.bs_count, np)


def read_mlp(name: str, weights: Weights, space: ActionSpace, bs_count: int) -> MlpDiffusionActor:
    """The diffusion policy of a policy folder. Raises ``UserError`` if it was trained for other numbers of places."""
    mlp.check_inputs(name, len(weights["scale"]), mlp_input_size(ObservationLayout(space), bs_count), space, bs_count)
    return MlpDiffusionActor(name, weights, space, bs_count)


def read(name: str, weights: Weights, space: ActionSpace, bs_count: int) -> DiffusionActor:
    """The diffusion policy of a policy folder, for a scenario with so many BSs."""
    return DiffusionActor(name, actor.prices_for(weights, bs_count), space)
