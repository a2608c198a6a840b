"""GDMs run by diffusers' pipelines that a user has on disk, on the processor or a GPU. Needs the extra ``[diffusers]``.

A ``Kind`` knows how one class of pipelines encodes a prompt and calls its network; the rest is the same for all. The
network runs in half precision on a GPU; samples and the VAE stay in single precision. Safety checkers are not run.
Images are square, of the size that the network was trained for.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import diffusers
import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from edgebrush.errors import UserError

from .backend import Prompt

INDEX = "model_index.json"
UNCHECKED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

Row = tuple[Tensor, ...]  # what one row of a batch gives the network besides its sample and time


@dataclass(frozen=True)
class Condition:
    """The network's inputs for the prompt, and, under guidance, those for the negative prompt."""

    wanted: Row
    unwanted: Row | None
    guidance: float


class Kind:
    """How a class of pipelines encodes a prompt and calls its network."""

    prediction: ClassVar[Literal["velocity", "noise"]] = "noise"
    network: ClassVar[str] = "transformer"
    half: ClassVar[torch.dtype] = torch.float16
    load_options: ClassVar[dict[str, Any]] = {}

    def __init__(self, pipe: Any):
        self.pipe = pipe
        self.config = getattr(pipe, self.network).config

    def shape(self) -> tuple[int, int, int]:
        """Of a latent sample."""
        return self.config.in_channels, self.config.sample_size, self.config.sample_size

    def tokens(self) -> int:
        """How many tokens a transformer makes of a latent sample, which a flow's shift may depend on."""
        return (self.config.sample_size // self.config.patch_size) ** 2

    def check(self, prompt: Prompt) -> None:
        """Raise ``UserError`` for a prompt that cannot be encoded; any text can be."""

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        """The rows of the prompt and of the negative prompt, the latter where the guidance is above 1."""
        raise NotImplementedError

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        """The network's output; ``columns`` are the rows' inputs, stacked."""
        raise NotImplementedError

    def guide(self, wanted: Tensor, unwanted: Tensor, scales: Tensor) -> Tensor:
        """Classifier-free guidance (Ho and Salimans 2022)."""
        return unwanted + scales * (wanted - unwanted)


class Dit(Kind):
    """Class-conditional transformers (Peebles and Xie 2023); a class is named, or given as its number."""

    def __init__(self, pipe: Any):
        super().__init__(pipe)
        self.classes = self.config.num_embeds_ada_norm  # the class after the last one stands for none
        self.labels = {str(number): number for number in range(self.classes)} | pipe.labels

    def check(self, prompt: Prompt) -> None:
        if prompt.text not in self.labels:
            near = difflib.get_close_matches(prompt.text, self.labels, cutoff=0.4)
            names = f"; near to it: {'; '.join(near)}" if near else ""
            raise UserError(f"class = {prompt.text!r}: neither a name nor a number below {self.classes}{names}")
        if prompt.negative:
            raise UserError(f"negative = {prompt.negative!r}: a class-conditional pipeline takes none; leave it empty")

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        label = torch.tensor(self.labels[prompt.text], device=device)
        none = torch.tensor(self.classes, device=device)
        return (label,), (none,) if prompt.guidance > 1 else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        output = self.pipe.transformer(samples, timestep=times.long(), class_labels=columns[0]).sample
        return output[:, : samples.shape[1]]  # the rest is the learnt variance


class StableDiffusion(Kind):
    """Stable Diffusion 1 and 2."""

    network = "unet"
    load_options = UNCHECKED

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        guided = prompt.guidance > 1
        text, negative = self.pipe.encode_prompt(prompt.text, device, 1, guided, prompt.negative)
        return (text[0],), (negative[0],) if guided else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        return self.pipe.unet(samples, times.long(), encoder_hidden_states=columns[0]).sample


class StableDiffusionXl(Kind):
    """Stable Diffusion XL: the pooled text and the image's size go to the network as well."""

    network = "unet"

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        guided = prompt.guidance > 1
        text, negative, pooled, negative_pooled = self.pipe.encode_prompt(
            prompt.text,
            device=device,
            do_classifier_free_guidance=guided,
            negative_prompt=prompt.negative or None,  # None and "" differ: the training's empty prompt was zeros
        )
        size = (self.config.sample_size * self.pipe.vae_scale_factor,) * 2
        sizes = self.pipe._get_add_time_ids(size, (0, 0), size, text.dtype, pooled.shape[-1])[0].to(device)
        return (text[0], pooled[0], sizes), (negative[0], negative_pooled[0], sizes) if guided else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        text, pooled, sizes = columns
        added = {"text_embeds": pooled, "time_ids": sizes}
        return self.pipe.unet(samples, times.long(), encoder_hidden_states=text, added_cond_kwargs=added).sample


class StableDiffusion3(Kind):
    """Stable Diffusion 3: a rectified flow."""

    prediction = "velocity"

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        guided = prompt.guidance > 1
        text, negative, pooled, negative_pooled = self.pipe.encode_prompt(
            prompt.text, None, None, device=device, do_classifier_free_guidance=guided, negative_prompt=prompt.negative
        )
        return (text[0], pooled[0]), (negative[0], negative_pooled[0]) if guided else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        text, pooled = columns
        return self.pipe.transformer(
            hidden_states=samples,
            timestep=times * self.pipe.scheduler.config.num_train_timesteps,
            encoder_hidden_states=text,
            pooled_projections=pooled,
        ).sample


class Flux(Kind):
    """FLUX.1: a rectified flow; the transformer takes two by two latent pixels as a token, and each token's place.

    The guidance is an input of a distilled network (dev), which needs no second evaluation then.
    """

    prediction = "velocity"
    half = torch.bfloat16  # its text encoder overflows in float16

    def shape(self) -> tuple[int, int, int]:
        return self.config.in_channels // 4, self.pipe.default_sample_size, self.pipe.default_sample_size

    def tokens(self) -> int:
        return (self.pipe.default_sample_size // 2) ** 2

    def check(self, prompt: Prompt) -> None:
        if prompt.negative and self.config.guidance_embeds:
            raise UserError(f"negative = {prompt.negative!r}: a guidance-distilled network takes none; leave it empty")

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        guidance = torch.tensor(prompt.guidance, device=device)
        twice = prompt.guidance > 1 and not self.config.guidance_embeds
        texts = [prompt.text, prompt.negative] if twice else [prompt.text]
        text, pooled, _ = self.pipe.encode_prompt(texts, device=device)
        return (text[0], pooled[0], guidance), (text[1], pooled[1], guidance) if twice else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        text, pooled, guidance = columns
        patches = pixel_unshuffle(samples, 2)
        rows, cols = patches.shape[2:]
        output = self.pipe.transformer(
            hidden_states=patches.flatten(2).mT,
            timestep=times,
            guidance=guidance if self.config.guidance_embeds else None,
            pooled_projections=pooled,
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=text.device),
            img_ids=self.pipe._prepare_latent_image_ids(len(samples), rows, cols, text.device, torch.float32),
        ).sample
        return pixel_shuffle(output.mT.unflatten(2, (rows, cols)), 2)


class PixArt(Kind):
    """PixArt-alpha and -sigma (Chen et al. 2023, 2024): the text's mask goes to the network, and alpha's image size."""

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        guided = prompt.guidance > 1
        text, mask, negative, negative_mask = self.pipe.encode_prompt(
            prompt.text, guided, prompt.negative, device=device, clean_caption=True
        )
        return (text[0], mask[0]), (negative[0], negative_mask[0]) if guided else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        text, mask = columns
        size = self.config.sample_size * self.pipe.vae_scale_factor
        rows = len(samples)
        output = self.pipe.transformer(
            samples,
            timestep=times.long(),
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            added_cond_kwargs={
                "resolution": samples.new_full((rows, 2), size),
                "aspect_ratio": samples.new_ones(rows, 1),
            },
        ).sample
        return output[:, : samples.shape[1]]  # the rest is the learnt variance


class AuraFlow(Kind):
    """AuraFlow: a rectified flow; the text goes to the network alone, with zeros where it ends."""

    prediction = "velocity"

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        guided = prompt.guidance > 1
        text, _, negative, _ = self.pipe.encode_prompt(prompt.text, prompt.negative, guided, device=device)
        return (text[0],), (negative[0],) if guided else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        return self.pipe.transformer(samples, encoder_hidden_states=columns[0], timestep=times.to(samples.dtype)).sample


class Sana(Kind):
    """Sana (Xie et al. 2024): a rectified flow; its text encoder is asked to enhance the prompt."""

    prediction = "velocity"
    half = torch.bfloat16

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        guided = prompt.guidance > 1
        instruction = inspect.signature(self.pipe.__call__).parameters["complex_human_instruction"].default
        text, mask, negative, negative_mask = self.pipe.encode_prompt(
            prompt.text, guided, prompt.negative, device=device, complex_human_instruction=instruction
        )
        return (text[0], mask[0]), (negative[0], negative_mask[0]) if guided else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        text, mask = columns
        scale = self.pipe.scheduler.config.num_train_timesteps * self.config.timestep_scale
        return self.pipe.transformer(
            samples, encoder_hidden_states=text, encoder_attention_mask=mask, timestep=times * scale
        ).sample


class Lumina2(Kind):
    """Lumina Image 2.0: a rectified flow from 0, noise, to 1, whose guidance keeps the length of the prediction."""

    prediction = "velocity"
    half = torch.bfloat16

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        guided = prompt.guidance > 1
        text, mask, negative, negative_mask = self.pipe.encode_prompt(
            prompt.text, guided, prompt.negative, device=device
        )
        return (text[0], mask[0]), (negative[0], negative_mask[0]) if guided else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        text, mask = columns
        return -self.pipe.transformer(
            samples, timestep=1 - times, encoder_hidden_states=text, encoder_attention_mask=mask
        ).sample

    def guide(self, wanted: Tensor, unwanted: Tensor, scales: Tensor) -> Tensor:
        """Along each row of the latent image, as the pipeline does by default."""
        guided = super().guide(wanted, unwanted, scales)
        return guided * wanted.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True)


KINDS: dict[str, type[Kind]] = {
    "DiTPipeline": Dit,
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXl,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
    "PixArtAlphaPipeline": PixArt,
    "PixArtSigmaPipeline": PixArt,
    "AuraFlowPipeline": AuraFlow,
    "SanaPipeline": Sana,
    "Lumina2Pipeline": Lumina2,
}


class PipelineBackend:
    """A diffusers pipeline of one of ``KINDS``; samples are torch tensors on its device.

    Raises ``UserError`` for a pipeline of another kind, or one whose scheduler is of another family than its kind's.
    """

    def __init__(self, pipe: Any, device: str = "cpu"):
        name = type(pipe).__name__
        self.kind = kind_of(name)(pipe)
        self.pipe, self.device = pipe, check_device(device)
        self.name = name
        self.prediction: Literal["velocity", "noise"] = self.kind.prediction
        self.network = getattr(pipe, self.kind.network)
        self.shape: tuple[int, ...] = self.kind.shape()
        pipe.to(device)
        pipe.vae.to(torch.float32)
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()  # a pipeline that was built rather than loaded drops classes at random
        self.read_scheduler()

    def read_scheduler(self) -> None:
        """Take the training's noise schedule, or the flow's shift, from the pipeline's scheduler."""
        scheduler = self.pipe.scheduler
        schedule = getattr(scheduler, "alphas_cumprod", None)
        predicts = scheduler.config.get("prediction_type", "flow_prediction" if schedule is None else "epsilon")
        if predicts == "flow_prediction":
            schedule = None  # DPMSolverMultistepScheduler has one for a flow as well
        wanted = {"velocity": ("flow_prediction",), "noise": ("epsilon", "v_prediction")}[self.prediction]
        if predicts not in wanted or (schedule is None) != (self.prediction == "velocity"):
            raise UserError(
                f"{self.name}: its scheduler {type(scheduler).__name__} (prediction_type {predicts}) does not tell the "
                f"training schedule of a {self.prediction} prediction; give the pipeline the scheduler it came with"
            )
        self.of_v = predicts == "v_prediction"
        self.alphas_cumprod = None if schedule is None else schedule.double().numpy()
        self.shift = flow_shift(scheduler.config, self.kind) if schedule is None else 1.0

    def check(self, prompt: Prompt) -> None:
        if not (math.isfinite(prompt.guidance) and prompt.guidance >= 1):
            raise UserError(f"guidance = {prompt.guidance:g}: must be at least 1, which is none")
        self.kind.check(prompt)

    @torch.no_grad()
    def encode(self, prompt: Prompt) -> Condition:
        self.check(prompt)
        return Condition(*self.kind.encode(prompt, self.device), prompt.guidance)

    @torch.no_grad()
    def predict(self, samples: Any, times: Any, conditions: Sequence[Condition]) -> Tensor:
        """Rows under guidance go in twice, the second time for the negative prompt."""
        guided = [n for n, each in enumerate(conditions) if each.unwanted is not None]
        rows = [each.wanted for each in conditions]
        rows += [each.unwanted for each in conditions if each.unwanted is not None]
        taken = [*range(len(conditions)), *guided]
        batch = torch.stack(list(samples))[taken]
        at = torch.as_tensor(times, dtype=torch.float32, device=self.device)[taken]
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        output = self.kind.predict(batch.to(self.network.dtype), at, columns).float()
        if self.of_v:
            output = self.noise_of(output, batch, at)
        wanted, unwanted = output[: len(conditions)], output[len(conditions) :]
        scales = torch.tensor([conditions[n].guidance for n in guided], device=self.device)
        wanted[guided] = self.kind.guide(wanted[guided], unwanted, scales[:, None, None, None])
        return wanted

    def noise_of(self, v: Tensor, samples: Tensor, times: Tensor) -> Tensor:
        """The noise that a v-prediction means (Salimans and Ho 2022): ``alpha v + sigma x``."""
        kept = self.pipe.scheduler.alphas_cumprod.to(self.device)[times.long()][:, None, None, None]
        return kept.sqrt() * v + (1 - kept).sqrt() * samples

    @torch.no_grad()
    def decode(self, sample: Tensor) -> np.ndarray:
        """The image (H, W, 3)."""
        config = self.pipe.vae.config
        latent = sample[None] / config.scaling_factor + (config.get("shift_factor") or 0.0)
        image = self.pipe.vae.decode(latent).sample[0].permute(1, 2, 0)
        return ((image / 2 + 0.5).clamp(0, 1) * 255).round().byte().cpu().numpy()

    def noise(self, seed: int) -> Tensor:
        """Drawn on the processor, so that it is the same on every device."""
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(seed)).to(self.device)


def flow_shift(config: Any, kind: Kind) -> float:
    """The shift of a flow's times, which a scheduler may make follow from the number of tokens (Esser et al. 2024)."""
    if not config.get("use_dynamic_shifting", False):
        return float(config.get("flow_shift", config.get("shift", 1.0)))
    bounds = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    shift = calculate_shift(kind.tokens(), *(config[bound] for bound in bounds))
    return math.exp(shift) if config.time_shift_type == "exponential" else shift


def kind_of(name: str) -> type[Kind]:
    if name not in KINDS:
        raise UserError(f"pipeline = {name}: not a kind that is known here; those are {', '.join(KINDS)}")
    return KINDS[name]


def precision(name: str, device: str) -> torch.dtype:
    """What a pipeline of that class is loaded in for a device."""
    return torch.float32 if torch.device(device).type == "cpu" else kind_of(name).half


def check_device(device: str) -> str:
    """The device, where torch can use it."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first_line = str(error).splitlines()[0]
        raise UserError(f"device = {device!r}: torch cannot use it ({first_line}); cpu always works") from None
    return device


def load_pipeline(path: str | Path, device: str = "cpu") -> PipelineBackend:
    """A pipeline from a local folder, as ``save_pretrained`` writes it; safetensors only, nothing is fetched.

    Raises ``UserError`` where the folder does not hold one that is known here, or its files are not sound.
    """
    folder = Path(path)
    try:
        index = json.loads((folder / INDEX).read_text())
        name = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"pipeline = {str(path)!r}: not a folder with a diffusers pipeline ({INDEX}) in it") from None
    left_out = {part: None for part, value in index.items() if value == [None, None]}  # SD3 without T5, say
    options = left_out | kind_of(name).load_options
    check_device(device)
    dtype = precision(name, device)
    options["torch_dtype"] = {"default": dtype, "vae": torch.float32}  # T5 keeps single what overflows in half
    try:
        pipe = getattr(diffusers, name).from_pretrained(folder, local_files_only=True, use_safetensors=True, **options)
    except Exception as error:  # diffusers, transformers and safetensors have no common class of their errors
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"pipeline = {str(path)!r}: cannot be loaded: {first_line}") from None
    getattr(pipe, kind_of(name).network).to(dtype)  # without accelerate, diffusers leaves some as they are on disk
    return PipelineBackend(pipe, device)
