"""The interface between the engine and whatever runs a GDM: ``Prompt`` and the ``Backend`` protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

PredictionType = Literal["velocity", "noise"]  # what a network predicts; diffusers: flow_prediction, epsilon


@dataclass(frozen=True)
class Prompt:
    """What an image shows. For a class-conditional model, ``text`` is the name of the class.

    ``guidance`` is the scale of classifier-free guidance (Ho and Salimans 2022). 1 means no guidance. Above 1, every
    step evaluates the network twice, the second time on the negative prompt.
    """

    text: str
    negative: str = ""
    guidance: float = 1.0


class Backend(Protocol):
    """Evaluates a network on a batch whose rows may be at different times, and encodes and decodes around it.

    A latent sample is a NumPy array or a torch tensor of ``shape``, whichever the backend uses; samplers work on both.
    A batch of samples is any sequence of them.
    """

    name: str
    prediction: PredictionType
    shape: tuple[int, ...]  # of one latent sample, for example (1, 28, 28)
    alphas_cumprod: np.ndarray | None  # (T,) noise schedule of the training; None for a velocity
    shift: float  # of a flow's time grid; 1 is a uniform grid

    def check(self, prompt: Prompt) -> None:
        """Raise ``UserError`` if ``encode`` would reject the prompt. Costs no computation."""

    def encode(self, prompt: Prompt) -> Any:
        """Encode a prompt once per image: a class to its label, a text to embeddings. Raises ``UserError``."""

    def predict(self, samples: Any, times: Any, conditions: Sequence[Any]) -> Iterable[Any]:
        """Return the network's predictions (B, *shape) for B samples at B times under B encoded prompts.

        Samples and times are sequences or arrays. Times are in [0, 1] for a velocity, where 1 is pure noise, and
        indices into ``alphas_cumprod`` for a noise prediction.
        """

    def decode(self, sample: Any) -> np.ndarray:
        """Decode one latent sample to an image (H, W) or (H, W, 3), uint8."""

    def noise(self, seed: int) -> Any:
        """Draw the initial latent sample; it depends only on the seed."""
