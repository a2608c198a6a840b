"""Samplers: how a sample moves from noise to an image in a given number of network evaluations.

Both kinds of model follow ``x = alpha * clean + sigma * noise``: a rectified flow with ``alpha = 1 - t``,
``sigma = t``, a noise predictor with the ``alpha, sigma`` of its training. A prediction thus says what the clean image
is, and two exponential integrators (DPM-Solver++, Lu et al. 2022) serve all: the first-order one, which is Euler for a
flow and DDIM for a noise predictor, and the second-order multistep one (2M, midpoint).

A sampler holds no state; that of a request is its ``Trajectory``. Samples may be NumPy arrays or torch tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from edgebrush.errors import UserError

from .backend import Backend

FLOW_TIMES = 1000  # a flow's second-order grid stays 1/1000 below t = 1, where log(alpha) is infinite


@dataclass(frozen=True)
class Grid:
    """The points of a sampler: network times (steps,); alphas and sigmas (steps + 1,), the last of the clean image."""

    times: np.ndarray
    alphas: list[float]
    sigmas: list[float]


@dataclass
class Trajectory:
    """A request on its way: its sample, how many steps it has made, and what a multistep method remembers."""

    sample: Any
    grid: Grid
    step: int = 0
    last_clean: Any = None

    @property
    def time(self) -> float:
        """The network time of the next step."""
        return self.grid.times[self.step].item()

    @property
    def finished(self) -> bool:
        return self.step == len(self.grid.times)


class Sampler:
    """A time grid and an integrator's order; subclasses give the grid and the clean image in a prediction."""

    prediction: ClassVar[Literal["velocity", "noise"]]
    order: ClassVar[int]

    def grid(self, steps: int) -> Grid:
        raise NotImplementedError

    def clean(self, sample: Any, prediction: Any, alpha: float, sigma: float) -> Any:
        """The clean image that a prediction means."""
        raise NotImplementedError

    def times(self, steps: int) -> np.ndarray:
        """The network times (steps,), descending."""
        return self.grid(steps).times

    def start(self, noise: Any, steps: int) -> Trajectory:
        return Trajectory(noise, self.grid(steps))

    def advance(self, trajectory: Trajectory, prediction: Any) -> None:
        """Move one step along the prediction made at ``trajectory.sample`` and ``trajectory.time``."""
        i, grid = trajectory.step, trajectory.grid
        alpha, sigma = grid.alphas[i], grid.sigmas[i]
        next_alpha, next_sigma = grid.alphas[i + 1], grid.sigmas[i + 1]
        clean = self.clean(trajectory.sample, prediction, alpha, sigma)
        towards = clean
        if self.order == 2 and 0 < i < len(grid.times) - 1:
            towards = clean + (clean - trajectory.last_clean) * (0.5 / self.gap_ratio(grid, i))
        shrink = next_sigma / sigma
        trajectory.sample = shrink * trajectory.sample + (next_alpha - shrink * alpha) * towards
        trajectory.last_clean = clean if self.order == 2 else None
        trajectory.step += 1

    @staticmethod
    def gap_ratio(grid: Grid, i: int) -> float:
        """The last gap in ``log(alpha / sigma)`` over the one that step ``i`` crosses."""
        before, here, after = (math.log(grid.alphas[j] / grid.sigmas[j]) for j in (i - 1, i, i + 1))
        return (here - before) / (after - here)


class FlowSampler(Sampler):
    """For a velocity ``noise - clean``. ``shift`` moves the times towards the noise (SD3: 3, Esser et al. 2024)."""

    prediction = "velocity"
    first_time: ClassVar[float] = 1.0

    def __init__(self, shift: float = 1.0):
        self.shift = shift

    def grid(self, steps: int) -> Grid:
        uniform = self.first_time * (1.0 - np.arange(steps + 1) / steps)
        sigmas = self.shift * uniform / (1.0 + (self.shift - 1.0) * uniform)
        return Grid(sigmas[:-1], (1.0 - sigmas).tolist(), sigmas.tolist())

    def clean(self, sample: Any, prediction: Any, alpha: float, sigma: float) -> Any:
        return sample - sigma * prediction


class Euler(FlowSampler):
    """Times ``1 - i / steps``, then shifted: diffusers' FlowMatchEulerDiscreteScheduler with these as its sigmas, as
    FLUX gives them (its own grid, by default, ends at 1/1000 instead, which wastes the last step)."""

    order = 1


class Multistep(FlowSampler):
    """DPM-Solver++(2M) on a flow, times ``0.999 (1 - i / steps)``, then shifted: diffusers'
    DPMSolverMultistepScheduler with use_flow_sigmas. First and last steps are Euler's."""

    order = 2
    first_time = 1.0 - 1.0 / FLOW_TIMES


class NoiseSampler(Sampler):
    """For a noise prediction. Times ``round(T - i T / steps) - 1`` ("trailing": Lin et al. 2024), then the clean image.

    ``alphas_cumprod`` (T,) is the training's schedule, ``alpha^2``.
    """

    prediction = "noise"

    def __init__(self, alphas_cumprod: np.ndarray):
        self.alphas_cumprod = np.asarray(alphas_cumprod, float)

    def grid(self, steps: int) -> Grid:
        count = len(self.alphas_cumprod)
        times = np.rint(count - np.arange(steps) * count / steps).astype(np.int64) - 1
        kept = np.append(self.alphas_cumprod[times], 1.0)
        return Grid(times, np.sqrt(kept).tolist(), np.sqrt(1.0 - kept).tolist())

    def clean(self, sample: Any, prediction: Any, alpha: float, sigma: float) -> Any:
        return (sample - sigma * prediction) / alpha


class Ddim(NoiseSampler):
    """Song et al. 2021, without noise on the way: diffusers' DDIMScheduler with timestep_spacing="trailing" and
    set_alpha_to_one. Where steps do not divide T, diffusers steps T // steps back instead of to the next time."""

    order = 1


class DpmSolver(NoiseSampler):
    """DPM-Solver++(2M): diffusers' DPMSolverMultistepScheduler, order 2, midpoint, timestep_spacing="trailing".
    First and last steps are DDIM's."""

    order = 2


FLOW_SAMPLERS: dict[str, type[FlowSampler]] = {"euler": Euler, "multistep": Multistep}
NOISE_SAMPLERS: dict[str, type[NoiseSampler]] = {"ddim": Ddim, "dpm-solver++": DpmSolver}
SAMPLERS: dict[str, type[Sampler]] = {**FLOW_SAMPLERS, **NOISE_SAMPLERS}


def make_sampler(name: str, backend: Backend) -> Sampler:
    """The sampler of that name for a backend. Raises ``UserError`` where it does not suit the backend's predictions."""
    if name in FLOW_SAMPLERS and backend.prediction == "velocity":
        return FLOW_SAMPLERS[name](backend.shift)
    if name in NOISE_SAMPLERS and backend.alphas_cumprod is not None:
        return NOISE_SAMPLERS[name](backend.alphas_cumprod)
    suited = ", ".join(each for each, kind in SAMPLERS.items() if kind.prediction == backend.prediction)
    raise UserError(f"sampler = {name!r}: {backend.name} predicts {backend.prediction}; choose one of {suited}")
