"""The interface between the engine and whatever runs a GDM: ``Prompt`` and the ``Backend`` protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from edgebrush.errors import UserError

Size = tuple[int, int]  # of an image: width and height in pixels
# Of a flow's time grid: a number, or a function of the uniform times (steps + 1,) and the sample's shape.
Shift = float | Callable[[np.ndarray, Sequence[int]], np.ndarray]
PredictionType = Literal["velocity", "noise"]  # what a network predicts; diffusers: flow_prediction, epsilon


@dataclass(frozen=True)
class Prompt:
    """What an image shows. For a class-conditional model, ``text`` is the name of the class.

    ``guidance`` is the scale of classifier-free guidance (Ho and Salimans 2022). 1 means no guidance. Above 1, every
    step evaluates the network twice, the second time on the negative prompt. None means the backend's default.
    """

    text: str
    negative: str = ""
    guidance: float | None = None

    def with_default(self, guidance: float) -> Prompt:
        """Return the prompt, with this guidance if it states none."""
        return self if self.guidance is not None else replace(self, guidance=guidance)


class Backend(Protocol):
    """Evaluates a network on a batch whose rows may be at different times, and encodes and decodes around it.

    A latent sample is a NumPy array or a torch tensor, whichever the backend uses; samplers work on both. A batch of
    samples is any sequence of them; images of several sizes may share it. On a GPU, all methods but ``decode`` may
    return before their work is done.
    """

    name: str
    prediction: PredictionType
    shape: tuple[int, ...]  # of a latent sample of the model's own size, for example (1, 28, 28)
    alphas_cumprod: np.ndarray | None  # (T,) noise schedule of the training; None for a velocity
    shift: Shift  # 1 is a uniform grid
    guidance: float  # of a prompt that states none

    def check(self, prompt: Prompt) -> None:
        """Raise ``UserError`` if ``encode`` would reject the prompt. Costs no computation."""

    def check_size(self, size: Size | None) -> None:
        """Raise ``UserError`` if the model cannot generate images of a size. None is the model's own size."""

    def encode(self, prompt: Prompt) -> Any:
        """Encode a prompt once per image: a class to its label, a text to embeddings. Raises ``UserError``."""

    def predict(self, samples: Any, times: Any, conditions: Sequence[Any]) -> Iterable[Any]:
        """Return the network's predictions for B samples at B times under B encoded prompts.

        Samples and times are sequences or arrays. Times are in [0, 1] for a velocity, where 1 is pure noise, and
        indices into ``alphas_cumprod`` for a noise prediction.
        """

    def decode(self, samples: Sequence[Any]) -> list[np.ndarray]:
        """Decode latent samples to images (H, W) or (H, W, 3), uint8."""

    def noise(self, seed: int, size: Size | None = None) -> Any:
        """Draw the initial latent sample of an image; it depends only on the seed and the size."""

    def synchronize(self) -> None:
        """Wait until the device has done its work. Call it before reading a clock."""


def size_text(size: Size) -> str:
    """Return a size as in OpenAI's API, for example ``1024x768``."""
    return f"{size[0]}x{size[1]}"


def parse_size(text: str) -> Size:
    """Parse a size as in OpenAI's API. Raises ``UserError``."""
    width, _, height = text.partition("x")
    if not (width.isascii() and width.isdecimal() and height.isascii() and height.isdecimal()):
        raise UserError(f"size = {text!r}: must be WIDTHxHEIGHT in pixels, for example 1024x768")
    return int(width), int(height)
