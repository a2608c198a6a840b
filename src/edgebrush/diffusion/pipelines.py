"""A backend for diffusers pipelines from disk, on the CPU or a GPU. Needs the extra ``[diffusers]``.

What differs between kinds of pipelines is in ``pipeline_families``. The network runs in half precision on a GPU;
samples and the VAE stay in single precision. Images are square, of the size the network was trained for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor

from edgebrush.errors import UserError

from .backend import PredictionType, Prompt
from .pipeline_families import PipelineFamily, Row, family_of

INDEX = "model_index.json"


@dataclass(frozen=True)
class Condition:
    """An encoded prompt: the network's inputs for it and, with guidance, for the negative prompt."""

    positive: Row
    negative: Row | None
    guidance: float


class PipelineBackend:
    """A diffusers pipeline of one of ``FAMILIES``; samples are torch tensors on its device.

    Raises ``UserError`` for an unsupported pipeline, or if its scheduler does not fit its prediction type.
    """

    def __init__(self, pipe: Any, device: str = "cpu"):
        name = type(pipe).__name__
        self.family = family_of(name)(pipe)
        self.pipe, self.device = pipe, check_device(device)
        self.name = name
        self.prediction: PredictionType = self.family.prediction
        self.network = getattr(pipe, self.family.network_name)
        self.shape: tuple[int, ...] = self.family.shape()
        pipe.to(device)
        pipe.vae.to(torch.float32)
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()  # a newly built network is in training mode, which drops classes at random
        self.read_scheduler()

    def read_scheduler(self) -> None:
        """Read the noise schedule of the training, or the flow's shift, from the pipeline's scheduler."""
        scheduler = self.pipe.scheduler
        schedule = getattr(scheduler, "alphas_cumprod", None)
        predicted = scheduler.config.get("prediction_type", "flow_prediction" if schedule is None else "epsilon")
        if predicted == "flow_prediction":
            schedule = None  # DPMSolverMultistepScheduler has one for a flow, too
        expected = {"velocity": ("flow_prediction",), "noise": ("epsilon", "v_prediction")}[self.prediction]
        if predicted not in expected or (schedule is None) != (self.prediction == "velocity"):
            raise UserError(
                f"scheduler = {type(scheduler).__name__} (prediction_type {predicted}): {self.name} needs one for a "
                f"{self.prediction} prediction; use the scheduler that the pipeline was published with"
            )
        self.is_v_prediction = predicted == "v_prediction"
        self.alphas_cumprod = None if schedule is None else schedule.double().numpy()
        self.shift = flow_shift(scheduler.config, self.family) if schedule is None else 1.0

    def check(self, prompt: Prompt) -> None:
        """Raise ``UserError`` for a prompt that cannot be encoded."""
        if not (math.isfinite(prompt.guidance) and prompt.guidance >= 1):
            raise UserError(f"guidance = {prompt.guidance:g}: must be at least 1; 1 means no guidance")
        self.family.check(prompt)

    @torch.no_grad()
    def encode(self, prompt: Prompt) -> Condition:
        """Run the text encoders, or look up the class. Raises ``UserError``."""
        self.check(prompt)
        return Condition(*self.family.encode(prompt, self.device), prompt.guidance)

    @torch.no_grad()
    def predict(self, samples: Any, times: Any, conditions: Sequence[Condition]) -> Tensor:
        """Evaluate the network once. Rows with guidance appear twice, the second time with the negative prompt."""
        guided = [n for n, each in enumerate(conditions) if each.negative is not None]
        rows = [each.positive for each in conditions]
        rows += [each.negative for each in conditions if each.negative is not None]
        sources = [*range(len(conditions)), *guided]
        batch = torch.stack(list(samples))[sources]
        at = torch.as_tensor(times, dtype=torch.float32, device=self.device)[sources]
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        output = self.family.predict(batch.to(self.network.dtype), at, columns).float()
        if self.is_v_prediction:
            output = self.noise_from_v(output, batch, at)
        positive, negative = output[: len(conditions)], output[len(conditions) :]
        scales = torch.tensor([conditions[n].guidance for n in guided], device=self.device)
        positive[guided] = self.family.apply_guidance(positive[guided], negative, scales[:, None, None, None])
        return positive

    def noise_from_v(self, v: Tensor, samples: Tensor, times: Tensor) -> Tensor:
        """Convert a v-prediction (Salimans and Ho 2022) to the noise: ``alpha v + sigma x``."""
        alphas_cumprod = self.pipe.scheduler.alphas_cumprod.to(self.device)[times.long()][:, None, None, None]
        return alphas_cumprod.sqrt() * v + (1 - alphas_cumprod).sqrt() * samples

    @torch.no_grad()
    def decode(self, sample: Tensor) -> np.ndarray:
        """Decode a latent sample to an image (H, W, 3) with the VAE."""
        config = self.pipe.vae.config
        latent = sample[None] / config.scaling_factor + (config.get("shift_factor") or 0.0)
        image = self.pipe.vae.decode(latent).sample[0].permute(1, 2, 0)
        return ((image / 2 + 0.5).clamp(0, 1) * 255).round().byte().cpu().numpy()

    def noise(self, seed: int) -> Tensor:
        """Draw the initial sample on the CPU, so that it is the same on every device."""
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(seed)).to(self.device)


def flow_shift(config: Any, family: PipelineFamily) -> float:
    """Return the shift of a flow's times; with dynamic shifting it depends on the tokens (Esser et al. 2024)."""
    if not config.get("use_dynamic_shifting", False):
        return float(config.get("flow_shift", config.get("shift", 1.0)))
    bounds = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    shift = calculate_shift(family.token_count(), *(config[bound] for bound in bounds))
    return math.exp(shift) if config.time_shift_type == "exponential" else shift


def network_dtype(pipeline_class: str, device: str) -> torch.dtype:
    """Return the dtype of a pipeline's network on a device."""
    return torch.float32 if torch.device(device).type == "cpu" else family_of(pipeline_class).half_dtype


def check_device(device: str) -> str:
    """Return the device. Raises ``UserError`` if torch cannot use it."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first_line = str(error).splitlines()[0]
        raise UserError(f"device = {device!r}: torch cannot use it ({first_line}); use cpu") from None
    return device


def load_pipeline(path: str | Path, device: str = "cpu") -> PipelineBackend:
    """Load a pipeline from a local folder in the format of ``save_pretrained``; safetensors only, no download.

    Raises ``UserError`` if the folder holds no supported pipeline or its files are damaged.
    """
    folder = Path(path)
    try:
        index = json.loads((folder / INDEX).read_text())
        name = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"pipeline = {str(path)!r}: not the folder of a diffusers pipeline: it has no {INDEX}"
        ) from None
    omitted = {part: None for part, value in index.items() if value == [None, None]}  # for example SD3 without T5
    options = omitted | family_of(name).load_options
    check_device(device)
    dtype = network_dtype(name, device)
    options["torch_dtype"] = {
        "default": dtype,
        "vae": torch.float32,
    }  # T5 keeps layers that overflow in float32
    try:
        pipe = getattr(diffusers, name).from_pretrained(folder, local_files_only=True, use_safetensors=True, **options)
    except Exception as error:  # diffusers, transformers and safetensors share no exception class
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"pipeline = {str(path)!r}: cannot be loaded: {first_line}") from None
    getattr(pipe, family_of(name).network_name).to(dtype)  # without accelerate, some keep the dtype on disk
    return PipelineBackend(pipe, device)
