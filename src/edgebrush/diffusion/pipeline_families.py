"""Families of diffusers pipelines: how each one encodes a prompt and calls its network. Needs ``[diffusers]``.

A new kind of pipeline is one more class here and one more line in ``FAMILIES``.
"""

from __future__ import annotations

import difflib
import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from edgebrush.errors import UserError

from .backend import PredictionType, Prompt

WITHOUT_SAFETY_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

Row = tuple[Tensor, ...]  # the network's inputs for one row of a batch, besides sample and time


class PipelineFamily:
    """How one class of pipelines encodes a prompt and calls its network.

    ``network_name`` is the pipeline's attribute with the network, ``half_dtype`` the dtype of the network on a GPU.
    """

    prediction: ClassVar[PredictionType] = "noise"
    network_name: ClassVar[str] = "transformer"
    half_dtype: ClassVar[torch.dtype] = torch.float16
    load_options: ClassVar[dict[str, Any]] = {}

    def __init__(self, pipe: Any):
        self.pipe = pipe
        self.config = getattr(pipe, self.network_name).config

    def shape(self) -> tuple[int, int, int]:
        """Return the shape of a latent sample."""
        return self.config.in_channels, self.config.sample_size, self.config.sample_size

    def token_count(self) -> int:
        """Return the number of a latent sample's tokens in a transformer; a flow's shift may depend on it."""
        return (self.config.sample_size // self.config.patch_size) ** 2

    def check(self, prompt: Prompt) -> None:
        """Raise ``UserError`` for a prompt that cannot be encoded. By default, every text is accepted."""

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        """Return the network inputs of the prompt and of the negative prompt; None for the latter without guidance."""
        raise NotImplementedError

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        """Return the network's output for a batch; ``columns`` are the inputs of its rows, stacked."""
        raise NotImplementedError

    def apply_guidance(self, positive: Tensor, negative: Tensor, scales: Tensor) -> Tensor:
        """Apply classifier-free guidance (Ho and Salimans 2022)."""
        return negative + scales * (positive - negative)


class Dit(PipelineFamily):
    """DiT (Peebles and Xie 2023): class-conditional; the prompt is the name or the number of a class."""

    def __init__(self, pipe: Any):
        super().__init__(pipe)
        self.classes = self.config.num_embeds_ada_norm  # this number, one past the last class, means no class
        self.labels = {str(number): number for number in range(self.classes)} | pipe.labels

    def check(self, prompt: Prompt) -> None:
        if prompt.text not in self.labels:
            similar = difflib.get_close_matches(prompt.text, self.labels, cutoff=0.4)
            hint = f"; similar names: {'; '.join(similar)}" if similar else ""
            raise UserError(f"class = {prompt.text!r}: neither a class name nor a number below {self.classes}{hint}")
        if prompt.negative:
            raise UserError(f"negative = {prompt.negative!r}: a class-conditional pipeline has none; leave it empty")

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        label = torch.tensor(self.labels[prompt.text], device=device)
        none = torch.tensor(self.classes, device=device)
        return (label,), (none,) if prompt.guidance > 1 else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        output = self.pipe.transformer(samples, timestep=times.long(), class_labels=columns[0]).sample
        return output[:, : samples.shape[1]]  # the other channels are the learnt variance


class StableDiffusion(PipelineFamily):
    """Stable Diffusion 1 and 2. The safety checker is not loaded."""

    network_name = "unet"
    load_options = WITHOUT_SAFETY_CHECKER

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        guided = prompt.guidance > 1
        text, negative = self.pipe.encode_prompt(prompt.text, device, 1, guided, prompt.negative)
        return (text[0],), (negative[0],) if guided else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        return self.pipe.unet(samples, times.long(), encoder_hidden_states=columns[0]).sample


class StableDiffusionXl(PipelineFamily):
    """Stable Diffusion XL: the network also takes the pooled text embedding and the image size."""

    network_name = "unet"

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        guided = prompt.guidance > 1
        text, negative, pooled, negative_pooled = self.pipe.encode_prompt(
            prompt.text,
            device=device,
            do_classifier_free_guidance=guided,
            negative_prompt=prompt.negative or None,  # None and "" differ: in training, no prompt was a zero embedding
        )
        size = (self.config.sample_size * self.pipe.vae_scale_factor,) * 2
        sizes = self.pipe._get_add_time_ids(size, (0, 0), size, text.dtype, pooled.shape[-1])[0].to(device)
        return (text[0], pooled[0], sizes), (negative[0], negative_pooled[0], sizes) if guided else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        text, pooled, sizes = columns
        added = {"text_embeds": pooled, "time_ids": sizes}
        return self.pipe.unet(samples, times.long(), encoder_hidden_states=text, added_cond_kwargs=added).sample


class StableDiffusion3(PipelineFamily):
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


class Flux(PipelineFamily):
    """FLUX.1: a rectified flow. A token is a patch of 2x2 latent pixels, with its position.

    A guidance-distilled network (dev) takes the guidance as an input and needs no second evaluation.
    """

    prediction = "velocity"
    half_dtype = torch.bfloat16  # its text encoder overflows in float16

    def shape(self) -> tuple[int, int, int]:
        return self.config.in_channels // 4, self.pipe.default_sample_size, self.pipe.default_sample_size

    def token_count(self) -> int:
        return (self.pipe.default_sample_size // 2) ** 2

    def check(self, prompt: Prompt) -> None:
        if prompt.negative and self.config.guidance_embeds:
            raise UserError(f"negative = {prompt.negative!r}: a guidance-distilled network has none; leave it empty")

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


class PixArt(PipelineFamily):
    """PixArt-alpha and -sigma (Chen et al. 2023, 2024): the network also takes the text mask and the image size."""

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
        return output[:, : samples.shape[1]]  # the other channels are the learnt variance


class AuraFlow(PipelineFamily):
    """AuraFlow: a rectified flow. The text embeddings are zero after the end of the text, so there is no mask."""

    prediction = "velocity"

    def encode(self, prompt: Prompt, device: str) -> tuple[Row, Row | None]:
        guided = prompt.guidance > 1
        text, _, negative, _ = self.pipe.encode_prompt(prompt.text, prompt.negative, guided, device=device)
        return (text[0],), (negative[0],) if guided else None

    def predict(self, samples: Tensor, times: Tensor, columns: list[Tensor]) -> Tensor:
        return self.pipe.transformer(samples, encoder_hidden_states=columns[0], timestep=times.to(samples.dtype)).sample


class Sana(PipelineFamily):
    """Sana (Xie et al. 2024): a rectified flow. The prompt is prefixed with an instruction to enhance it."""

    prediction = "velocity"
    half_dtype = torch.bfloat16

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


class Lumina2(PipelineFamily):
    """Lumina Image 2.0: a rectified flow with reversed time (0 is noise); guidance keeps the prediction's norm."""

    prediction = "velocity"
    half_dtype = torch.bfloat16

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

    def apply_guidance(self, positive: Tensor, negative: Tensor, scales: Tensor) -> Tensor:
        """Apply guidance, then restore the norm of each row of the latent image (the pipeline's default)."""
        guided = super().apply_guidance(positive, negative, scales)
        return guided * positive.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True)


FAMILIES: dict[str, type[PipelineFamily]] = {  # diffusers' pipeline class -> its family
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


def family_of(pipeline_class: str) -> type[PipelineFamily]:
    """Return the family of a pipeline class. Raises ``UserError`` for an unsupported one."""
    if pipeline_class not in FAMILIES:
        raise UserError(f"pipeline = {pipeline_class}: not supported; use one of {', '.join(FAMILIES)}")
    return FAMILIES[pipeline_class]
