"""What the engine asks of a GDM, whatever runs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np


@dataclass(frozen=True)
class Prompt:
    """What to draw. For a class-conditional model ``text`` is the class's name.

    ``guidance`` is the scale of classifier-free guidance (Ho and Salimans 2022); at 1 there is none, and above 1 every
    step evaluates the network twice, the second time on ``negative``.
    """

    text: str
    negative: str = ""
    guidance: float = 1.0


class Backend(Protocol):
    """Runs one network evaluation for a batch of rows, each at a time of its own.

    A latent sample is an array of ``shape``, of NumPy or torch as the backend likes; samplers treat both alike. A batch
    of samples is any sequence of them.
    """

    name: str
    prediction: Literal["velocity", "noise"]
    shape: tuple[int, ...]  # of one latent sample, e.g. (1, 28, 28)
    alphas_cumprod: np.ndarray | None  # (T,) the training's noise schedule; None for velocity
    shift: float  # of a flow's time grid; 1 is a uniform one

    def check(self, prompt: Prompt) -> None:
        """Raise ``UserError`` where ``encode`` would, at no cost."""

    def encode(self, prompt: Prompt) -> Any:
        """The fixed part on entry: a class to its label, text to embeddings. ``UserError`` for an unknown class."""

    def predict(self, samples: Any, times: Any, conditions: Sequence[Any]) -> Iterable[Any]:
        """The network's prediction (B, *shape) of B samples at B times.

        Both are sequences or arrays; times are in [0, 1] for a velocity (1 is noise), indices of ``alphas_cumprod`` for
        noise.
        """

    def decode(self, sample: Any) -> np.ndarray:
        """The fixed part on leaving: one latent sample to an image (H, W) or (H, W, 3), uint8."""

    def noise(self, seed: int) -> Any:
        """The initial sample, from the seed alone."""
