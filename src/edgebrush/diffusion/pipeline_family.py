"""The base of all families of diffusers pipelines: how one encodes a prompt, calls its network and decodes a latent."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor

from edgebrush.errors import UserError

from .backend import PredictionType, Prompt, Size, size_text

MAX_ASPECT = 2  # a side may be this many times the model's own, if the image has no more pixels

Row = tuple[Tensor, ...]  # the network's inputs for one row of a batch, besides sample and time


class PipelineFamily:
    """How one class of pipelines encodes a prompt, calls its network and decodes a latent sample.

    ``network_name`` is the pipeline's attribute with the network, ``half_dtype`` the dtype of the network on a GPU.
    ``trial_text`` is a prompt that every pipeline of the family accepts, as long as any. ``same_lengths``: whether
    the inputs of all prompts have the same shapes; a CUDA graph needs that. ``guidance_argument`` is the argument of
    the pipeline's call with the guidance.
    """

    prediction: ClassVar[PredictionType] = "noise"
    network_name: ClassVar[str] = "transformer"
    half_dtype: ClassVar[torch.dtype] = torch.float16
    load_options: ClassVar[dict[str, Any]] = {}
    trial_text: ClassVar[str] = "a"
    same_lengths: ClassVar[bool] = True
    guidance_argument = "guidance_scale"

    def __init__(self, pipe: Any):
        self.pipe = pipe
        self.config = getattr(pipe, self.network_name).config

    # -- sizes

    @property
    def own_shape(self) -> tuple[int, int, int]:
        """The shape of a latent sample of the size that the network was trained for."""
        return self.config.in_channels, self.config.sample_size, self.config.sample_size

    @property
    def scale(self) -> int:
        """Image pixels per latent pixel, in each direction."""
        return int(self.pipe.vae_scale_factor)

    @property
    def patch(self) -> int:
        """Latent pixels per token of a transformer, in each direction; 1 for a U-Net."""
        return int(self.config.get("patch_size") or 1)

    @property
    def longest_side(self) -> int:
        """The most latent pixels that a side may have."""
        return MAX_ASPECT * max(self.own_shape[1:])

    def token_count(self, rows: int, columns: int) -> int:
        """Return the number of a latent sample's tokens in a transformer; a flow's shift may depend on it."""
        return (rows // self.patch) * (columns // self.patch)

    def latent_shape(self, size: Size | None) -> tuple[int, int, int]:
        """Return the shape of the latent sample of an image. Raises ``UserError`` for a size that does not fit.

        An image has at most the pixels of the model's own size: the memory for a batch is known for that size.
        """
        channels, rows, columns = self.own_shape
        own = columns * self.scale, rows * self.scale
        if size is None or size == own:
            return self.own_shape
        step, longest = self.scale * self.patch, self.longest_side * self.scale
        text = f"size = {size_text(size)}: this model's own is {size_text(own)}"
        if any(side % step or side < step for side in size):
            raise UserError(f"{text}; use multiples of {step}")
        if size[0] * size[1] > own[0] * own[1] or max(size) > longest:
            raise UserError(f"{text}; use no more pixels than that and no side above {longest}")
        return channels, size[1] // self.scale, size[0] // self.scale

    # -- prompts

    @property
    def default_guidance(self) -> float:
        """The guidance of the pipeline's own call, if it is given none."""
        return float(inspect.signature(type(self.pipe).__call__).parameters[self.guidance_argument].default)

    def check(self, prompt: Prompt) -> None:
        """Raise ``UserError`` for a prompt that cannot be encoded. By default, every text is accepted."""

    def uses_negative(self, guidance: float) -> bool:
        """Return whether a step evaluates the network a second time, on the negative prompt."""
        return guidance > 1

    def encode(self, prompt: Prompt, device: str) -> Row:
        """Return the network's inputs for a prompt, which states its guidance."""
        raise NotImplementedError

    def encode_negative(self, text: str, device: str) -> Row:
        """Return the network's inputs for a negative prompt."""
        raise NotImplementedError

    # -- the network and the VAE

    def columns(self, rows: list[Row]) -> list[Any]:
        """Stack the inputs of the rows of a batch."""
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        """Return the network's output for a batch; ``columns`` are the inputs of its rows."""
        raise NotImplementedError

    def apply_guidance(self, positive: Tensor, negative: Tensor, scales: Tensor) -> Tensor:
        """Apply classifier-free guidance (Ho and Salimans 2022)."""
        return negative + scales * (positive - negative)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latent samples (B, C, h, w) to images (B, 3, H, W) in [-1, 1]."""
        config = self.pipe.vae.config
        latents = latents / config.scaling_factor + (config.get("shift_factor") or 0.0)
        return self.pipe.vae.decode(latents.to(self.pipe.vae.dtype)).sample
