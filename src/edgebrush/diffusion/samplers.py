"""Samplers: integrate from noise to an image in a given number of network evaluations.

Both kinds of model follow ``x = alpha x0 + sigma noise``, where x0 is the clean image: a rectified flow with
``alpha = 1 - t`` and ``sigma = t``, a noise predictor with the alphas and sigmas of its training. Every prediction
thus implies an x0 (diffusers: ``pred_original_sample``), and two exponential integrators (DPM-Solver++, Lu et al. 2022)
suffice for both. The first-order one is Euler for a flow and DDIM for a noise predictor. The second-order multistep one
is DPM-Solver++(2M), midpoint.

A sampler holds no state; the state of a request is its ``Trajectory``. Samples may be NumPy arrays or torch tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgebrush.errors import UserError

from .backend import Backend, PredictionType, Shift

FLOW_TIMES = 1000  # a flow's second-order grid starts 1/1000 below t = 1, where log(alpha) is infinite


@dataclass(frozen=True)
class TimeGrid:
    """The grid points of a sampler: network times (steps,); alphas and sigmas (steps + 1,), ending at x0."""

    times: np.ndarray
    alphas: list[float]
    sigmas: list[float]


@dataclass
class Trajectory:
    """The state of one request in the sampler.

    ``sample`` is x at step ``step`` (diffusers: latents), ``last_x0`` the previous step's x0 for a multistep method
    (diffusers: ``model_outputs[-2]``).
    """

    sample: Any
    grid: TimeGrid
    step: int = 0
    last_x0: Any = None

    @property
    def time(self) -> float:
        """The network time of the next step (diffusers: ``timesteps[step]``)."""
        return self.grid.times[self.step].item()

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step == len(self.grid.times)


class Sampler:
    """A time grid and the order of its integrator. Subclasses define the grid and how a prediction implies x0."""

    prediction: ClassVar[PredictionType]
    order: ClassVar[int]

    def grid(self, steps: int, shape: Sequence[int] = ()) -> TimeGrid:
        """Return the grid of ``steps`` steps for a sample of a shape."""
        raise NotImplementedError

    def predict_x0(self, sample: Any, prediction: Any, alpha: float, sigma: float) -> Any:
        """Return the clean image that a prediction at ``sample`` implies."""
        raise NotImplementedError

    def times(self, steps: int) -> np.ndarray:
        """Return the network times (steps,), descending."""
        return self.grid(steps).times

    def start(self, noise: Any, steps: int) -> Trajectory:
        """Start a trajectory of ``steps`` steps from a noise sample."""
        return Trajectory(noise, self.grid(steps, noise.shape))

    def advance(self, trajectory: Trajectory, prediction: Any) -> None:
        """Advance one step with the prediction at ``trajectory.sample`` and ``trajectory.time``.

        With s the current and t the next grid point, ``x_t = (sigma_t / sigma_s) x_s + (alpha_t - (sigma_t / sigma_s)
        alpha_s) D``. In first order D is x0. In second order ``D = D0 + D1 / 2`` with ``D0 = x0`` and
        ``D1 = (x0 - last_x0) / r0`` (Lu et al. 2022, algorithm 2; names as in diffusers' DPMSolverMultistepScheduler).
        The first and the last step are always of first order.
        """
        i, grid = trajectory.step, trajectory.grid
        alpha, sigma = grid.alphas[i], grid.sigmas[i]
        next_alpha, next_sigma = grid.alphas[i + 1], grid.sigmas[i + 1]
        x0 = self.predict_x0(trajectory.sample, prediction, alpha, sigma)
        direction = x0
        if self.order == 2 and 0 < i < len(grid.times) - 1:
            direction = x0 + (x0 - trajectory.last_x0) * (0.5 / self.step_ratio(grid, i))
        shrink = next_sigma / sigma
        trajectory.sample = shrink * trajectory.sample + (next_alpha - shrink * alpha) * direction
        trajectory.last_x0 = x0 if self.order == 2 else None
        trajectory.step += 1

    @staticmethod
    def step_ratio(grid: TimeGrid, i: int) -> float:
        """Return ``r0``: the previous step in ``lambda = log(alpha / sigma)`` over step ``i``."""
        before, here, after = (math.log(grid.alphas[j] / grid.sigmas[j]) for j in (i - 1, i, i + 1))
        return (here - before) / (after - here)


def shift_times(times: np.ndarray, shift: float) -> np.ndarray:
    """Shift a flow's times."""
    return shift * times / (1.0 + (shift - 1.0) * times)


class FlowSampler(Sampler):
    """For a velocity ``noise - x0``. ``shift`` moves the times towards the noise (SD3 uses 3, Esser et al. 2024)."""

    prediction = "velocity"
    first_time: ClassVar[float] = 1.0

    def __init__(self, shift: Shift = 1.0):
        self.shift = shift

    def grid(self, steps: int, shape: Sequence[int] = ()) -> TimeGrid:
        """Return uniform times from ``first_time`` to 0, shifted."""
        uniform = self.first_time * (1.0 - np.arange(steps + 1) / steps)
        sigmas = self.shift(uniform, shape) if callable(self.shift) else shift_times(uniform, self.shift)
        return TimeGrid(sigmas[:-1], (1.0 - sigmas).tolist(), sigmas.tolist())

    def predict_x0(self, sample: Any, prediction: Any, alpha: float, sigma: float) -> Any:
        """Return ``x - sigma velocity``."""
        return sample - sigma * prediction


class Euler(FlowSampler):
    """Euler on a flow, at times ``1 - i / steps``, shifted.

    Equals diffusers' FlowMatchEulerDiscreteScheduler with these times as its ``sigmas``, as the FLUX pipeline calls it.
    That scheduler's own default grid ends at 1/1000 instead, which wastes the last step.
    """

    order = 1


class Multistep(FlowSampler):
    """DPM-Solver++(2M) on a flow, at times ``0.999 (1 - i / steps)``, shifted.

    Equals diffusers' DPMSolverMultistepScheduler with ``use_flow_sigmas``.
    """

    order = 2
    first_time = 1.0 - 1.0 / FLOW_TIMES


class NoiseSampler(Sampler):
    """For a noise prediction, at times ``round(T - i T / steps) - 1`` ("trailing": Lin et al. 2024), then x0.

    ``alphas_cumprod`` (T,) is the noise schedule of the training, ``alpha^2``.
    """

    prediction = "noise"

    def __init__(self, alphas_cumprod: np.ndarray):
        self.alphas_cumprod = np.asarray(alphas_cumprod, float)

    def grid(self, steps: int, shape: Sequence[int] = ()) -> TimeGrid:
        """Return trailing times, and the training's alphas and sigmas at them."""
        count = len(self.alphas_cumprod)
        times = np.rint(count - np.arange(steps) * count / steps).astype(np.int64) - 1
        alphas_cumprod = np.append(self.alphas_cumprod[times], 1.0)
        return TimeGrid(times, np.sqrt(alphas_cumprod).tolist(), np.sqrt(1.0 - alphas_cumprod).tolist())

    def predict_x0(self, sample: Any, prediction: Any, alpha: float, sigma: float) -> Any:
        """Return ``(x - sigma noise) / alpha``."""
        return (sample - sigma * prediction) / alpha


class Ddim(NoiseSampler):
    """Deterministic DDIM (Song et al. 2021).

    Equals diffusers' DDIMScheduler with ``timestep_spacing="trailing"`` and ``set_alpha_to_one``, if ``steps`` divides
    T. Otherwise diffusers steps back by T // steps instead of to the next time of the grid.
    """

    order = 1


class DpmSolver(NoiseSampler):
    """DPM-Solver++(2M) on a noise predictor.

    Equals diffusers' DPMSolverMultistepScheduler of order 2, midpoint, ``timestep_spacing="trailing"``.
    """

    order = 2


FLOW_SAMPLERS: dict[str, type[FlowSampler]] = {"euler": Euler, "multistep": Multistep}
NOISE_SAMPLERS: dict[str, type[NoiseSampler]] = {"ddim": Ddim, "dpm-solver++": DpmSolver}
SAMPLERS: dict[str, type[Sampler]] = {**FLOW_SAMPLERS, **NOISE_SAMPLERS}


DEFAULT_SAMPLERS: dict[PredictionType, str] = {"velocity": "euler", "noise": "dpm-solver++"}


def make_sampler(name: str | None, backend: Backend) -> Sampler:
    """Create the sampler of this name, or the default one, for a backend.

    Raises ``UserError`` if it does not fit the prediction type.
    """
    name = name or DEFAULT_SAMPLERS[backend.prediction]
    if name in FLOW_SAMPLERS and backend.prediction == "velocity":
        return FLOW_SAMPLERS[name](backend.shift)
    if name in NOISE_SAMPLERS and backend.alphas_cumprod is not None:
        return NOISE_SAMPLERS[name](backend.alphas_cumprod)
    fitting = ", ".join(each for each, kind in SAMPLERS.items() if kind.prediction == backend.prediction)
    raise UserError(f"sampler = {name!r}: {backend.name} predicts {backend.prediction}; choose one of {fitting}")
