"""A backend for diffusers pipelines from disk, on the CPU or a GPU. Needs the extra ``[diffusers]``.

What differs between kinds of pipelines is in the families. On a GPU, the network runs in half precision and the VAE in
bfloat16, whose range is that of float32; samples stay in single precision. No method waits for the GPU between two
evaluations of the network, but for ``encode`` and ``decode``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import diffusers
import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor

from edgebrush.errors import UserError

from .backend import PredictionType, Prompt, Shift, Size
from .cuda_graphs import CudaGraphs
from .pipeline_families import family_of
from .pipeline_family import PipelineFamily, Row
from .samplers import shift_times

INDEX = "model_index.json"
KEPT_NEGATIVES = 64  # encoded negative prompts: most requests share one
DECODED_TOGETHER = 4  # images: more gain little and need much memory

Dtype = Literal["float16", "bfloat16", "float32"]


@dataclass(frozen=True)
class Condition:
    """An encoded prompt: the network's inputs for it and, with guidance, for the negative prompt."""

    positive: Row
    negative: Row | None
    guidance: float


class PipelineBackend:
    """A diffusers pipeline of one of ``FAMILIES``; samples are torch tensors on its device.

    ``guidance`` is that of a prompt that states none, by default that of the pipeline's own call. ``graphs`` are CUDA
    graphs of the network, if there are any (``warm_up``).

    Raises ``UserError`` for an unsupported pipeline, or if its scheduler does not fit its prediction type.
    """

    def __init__(self, pipe: Any, device: str = "cpu"):
        name = type(pipe).__name__
        self.family = family_of(name)(pipe)
        self.pipe, self.device = pipe, check_device(device)
        self.name = name
        self.prediction: PredictionType = self.family.prediction
        self.network = getattr(pipe, self.family.network_name)
        self.shape: tuple[int, ...] = self.family.own_shape
        self.guidance = self.family.default_guidance
        self.graphs: CudaGraphs | None = None
        pipe.to(device)
        # diffusers looks through all modules for these: too slow for every round.
        self.dtype, self.on_gpu = self.network.dtype, self.network.device.type == "cuda"
        pipe.vae.to(vae_dtype(self.dtype, device))
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()  # a newly built network is in training mode, which drops classes at random
        self.encode_negative = lru_cache(KEPT_NEGATIVES)(lambda text: self.family.encode_negative(text, device))
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
        self.schedule = None if schedule is None else schedule.to(self.device)
        self.alphas_cumprod = None if schedule is None else schedule.double().cpu().numpy()
        self.shift: Shift = flow_shift(scheduler.config, self.family) if schedule is None else 1.0

    def check(self, prompt: Prompt) -> None:
        """Raise ``UserError`` for a prompt that cannot be encoded."""
        guidance = self.guidance_of(prompt)
        if not (math.isfinite(guidance) and guidance >= 1):
            raise UserError(f"guidance = {guidance:g}: must be at least 1; 1 means no guidance")
        self.family.check(prompt)

    def guidance_of(self, prompt: Prompt) -> float:
        """Return the guidance that a prompt states, or else the default."""
        return self.guidance if prompt.guidance is None else prompt.guidance

    def check_size(self, size: Size | None) -> None:
        """Raise ``UserError`` for a size that does not fit the network, or with more pixels than the model's own."""
        self.family.latent_shape(size)

    @torch.no_grad()
    def encode(self, prompt: Prompt) -> Condition:
        """Run the text encoders, or look up the class. Raises ``UserError``."""
        self.check(prompt)
        guidance = self.guidance_of(prompt)
        positive = self.family.encode(prompt.with_default(guidance), self.device)
        negative = self.encode_negative(prompt.negative) if self.family.uses_negative(guidance) else None
        return Condition(positive, negative, guidance)

    @torch.no_grad()
    def predict(self, samples: Any, times: Any, conditions: Sequence[Condition]) -> list[Tensor]:
        """Evaluate the network once, or once for each size if the batch holds images of several sizes."""
        predictions: dict[int, Tensor] = {}
        for places in same_shapes(samples):
            places.sort(key=lambda place: conditions[place].negative is None)
            rows = self.predict_rows(
                [samples[place] for place in places],
                [float(times[place]) for place in places],
                [conditions[place] for place in places],
            )
            predictions |= zip(places, rows, strict=True)
        return [predictions[place] for place in range(len(predictions))]

    def predict_rows(self, samples: list[Tensor], times: list[float], conditions: list[Condition]) -> Tensor:
        """Evaluate the network on samples of one shape.

        The samples with guidance come first. They appear again at the end, with the negative prompt. So no list of
        indices has to travel to the GPU.
        """
        negatives = [each.negative for each in conditions if each.negative is not None]
        count, guided = len(samples), len(negatives)
        batch = torch.stack(samples + samples[:guided])
        at = self.upload(times + times[:guided])
        output = self.evaluate(batch, at, [each.positive for each in conditions] + negatives)
        if self.is_v_prediction:
            output = self.noise_from_v(output, batch, at)
        positive, negative = output[:count], output[count:]
        if guided:
            scales = self.upload([each.guidance for each in conditions[:guided]])[:, None, None, None]
            positive[:guided] = self.family.apply_guidance(positive[:guided], negative, scales)
        return positive

    def evaluate(self, samples: Tensor, times: Tensor, rows: list[Row]) -> Tensor:
        """Return the network's output in single precision, from a CUDA graph if one fits."""
        if self.graphs is not None and self.graphs.fit(samples):
            return self.graphs.replay(samples, times, rows)
        return self.family.predict(samples.to(self.dtype), times, self.family.columns(rows)).float()

    def noise_from_v(self, v: Tensor, samples: Tensor, times: Tensor) -> Tensor:
        """Convert a v-prediction (Salimans and Ho 2022) to the noise: ``alpha v + sigma x``."""
        assert self.schedule is not None
        alphas_cumprod = self.schedule[times.long()][:, None, None, None]
        return alphas_cumprod.sqrt() * v + (1 - alphas_cumprod).sqrt() * samples

    def upload(self, values: list[float]) -> Tensor:
        """Copy numbers to the device without waiting for it: only a copy from pinned memory is asynchronous."""
        host = torch.tensor(values, dtype=torch.float32)
        if not self.on_gpu:
            return host.to(self.device)
        return host.pin_memory().to(self.device, non_blocking=True)

    @torch.no_grad()
    def decode(self, samples: Sequence[Tensor]) -> list[np.ndarray]:
        """Decode latent samples to images (H, W, 3) with the VAE, a few at a time."""
        images: dict[int, np.ndarray] = {}
        for places in same_shapes(samples):
            for first in range(0, len(places), DECODED_TOGETHER):
                chunk = places[first : first + DECODED_TOGETHER]
                pixels = self.family.decode(torch.stack([samples[place] for place in chunk])).float()
                rgb = ((pixels.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1) * 255).round().byte()
                images |= zip(chunk, rgb.cpu().numpy(), strict=True)
        return [images[place] for place in range(len(images))]

    def noise(self, seed: int, size: Size | None = None) -> Tensor:
        """Draw the initial sample on the CPU, so that it is the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(self.family.latent_shape(size), generator=generator).to(self.device)

    def synchronize(self) -> None:
        """Wait until the GPU has done its work."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


def same_shapes(samples: Sequence[Tensor]) -> list[list[int]]:
    """Return the places of the samples of each shape."""
    groups: dict[torch.Size, list[int]] = {}
    for place, sample in enumerate(samples):
        groups.setdefault(sample.shape, []).append(place)
    return list(groups.values())


def flow_shift(config: Any, family: PipelineFamily) -> Shift:
    """Return the shift of a flow's times; with dynamic shifting it depends on the tokens (Esser et al. 2024)."""
    if not config.get("use_dynamic_shifting", False):
        return float(config.get("flow_shift", config.get("shift", 1.0)))

    def shifted(times: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        bounds = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        shift = calculate_shift(family.token_count(*shape[1:]), *(config[bound] for bound in bounds))
        sigmas = shift_times(times, math.exp(shift) if config.time_shift_type == "exponential" else shift)
        return stretch(sigmas, config.get("shift_terminal"))

    return shifted


def stretch(sigmas: np.ndarray, terminal: float | None) -> np.ndarray:
    """Stretch a grid so that its last point before 0 is ``terminal``, as Qwen-Image does; nothing without one."""
    covered = 1.0 - sigmas[-2]
    if not terminal or covered == 0.0:
        return sigmas
    return np.append(1.0 - (1.0 - sigmas[:-1]) * (1.0 - terminal) / covered, 0.0)


def network_dtype(pipeline_class: str, device: str) -> torch.dtype:
    """Return the dtype of a pipeline's network on a device, if the user states none."""
    return torch.float32 if torch.device(device).type == "cpu" else family_of(pipeline_class).half_dtype


def vae_dtype(dtype: torch.dtype, device: str) -> torch.dtype:
    """Return the dtype of the VAE. Some VAEs overflow in float16, for example SDXL's; bfloat16 has float32's range."""
    return torch.float32 if torch.device(device).type == "cpu" or dtype == torch.float32 else torch.bfloat16


def check_device(device: str) -> str:
    """Return the device. Raises ``UserError`` if torch cannot use it."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first_line = str(error).splitlines()[0]
        raise UserError(f"device = {device!r}: torch cannot use it ({first_line}); use cpu") from None
    return device


def load_pipeline(path: str | Path, device: str = "cpu", dtype: Dtype | None = None) -> PipelineBackend:
    """Load a pipeline from a local folder in the format of ``save_pretrained``; safetensors only, no download.

    ``dtype`` is the network's and the text encoders'; the default is single precision on the CPU and the family's half
    precision on a GPU. Raises ``UserError`` if the folder holds no supported pipeline or its files are damaged.
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
    chosen = getattr(torch, dtype) if dtype else network_dtype(name, device)
    options["dtype"] = {"default": chosen, "vae": torch.float32}  # T5 keeps layers that overflow in float32
    try:
        pipe = getattr(diffusers, name).from_pretrained(folder, local_files_only=True, use_safetensors=True, **options)
    except Exception as error:  # diffusers, transformers and safetensors share no exception class
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"pipeline = {str(path)!r}: cannot be loaded: {first_line}") from None
    getattr(pipe, family_of(name).network_name).to(chosen)  # without accelerate, some keep the dtype on disk
    backend = PipelineBackend(pipe, device)
    backend.name = folder.resolve().name
    return backend
