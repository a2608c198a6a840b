"""Families of pipelines whose network predicts a velocity (rectified flows): Stable Diffusion 3, FLUX.1 and later."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from torch.nn.utils.rnn import pad_sequence

from edgebrush.errors import UserError

from .backend import Prompt
from .pipeline_family import PipelineFamily, Row

LONG_TEXT = "a " * 600  # more tokens than a pipeline takes


class StableDiffusion3(PipelineFamily):
    """Stable Diffusion 3."""

    prediction = "velocity"

    @property
    def longest_side(self) -> int:
        return min(super().longest_side, self.config.pos_embed_max_size * self.patch)

    def encode(self, prompt: Prompt, device: str) -> Row:
        text, _, pooled, _ = self.pipe.encode_prompt(
            prompt.text, None, None, device=device, do_classifier_free_guidance=False
        )
        return text[0], pooled[0]

    def encode_negative(self, text: str, device: str) -> Row:
        _, negative, _, pooled = self.pipe.encode_prompt("", None, None, device=device, negative_prompt=text)
        return negative[0], pooled[0]

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        text, pooled = columns
        return self.pipe.transformer(
            hidden_states=samples,
            timestep=times * self.pipe.scheduler.config.num_train_timesteps,
            encoder_hidden_states=text,
            pooled_projections=pooled,
        ).sample


class PackedFlow(PipelineFamily):
    """A transformer whose token is a patch of 2x2 latent pixels that the pipeline packs itself."""

    prediction = "velocity"
    half_dtype = torch.bfloat16  # FLUX.1's text encoder overflows in float16

    @property
    def own_shape(self) -> tuple[int, int, int]:
        return self.config.in_channels // 4, self.pipe.default_sample_size, self.pipe.default_sample_size

    @property
    def patch(self) -> int:
        return 2

    @staticmethod
    def pack(samples: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return the tokens (B, rows x columns, 4 C) of samples, and (rows, columns)."""
        patches = pixel_unshuffle(samples, 2)
        return patches.flatten(2).mT, (patches.shape[2], patches.shape[3])

    @staticmethod
    def unpack(tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the samples of tokens."""
        return pixel_shuffle(tokens.mT.unflatten(2, size), 2)


class Flux(PackedFlow):
    """FLUX.1. A guidance-distilled network (dev) takes the guidance as an input and needs no second evaluation."""

    def __init__(self, pipe: Any):
        super().__init__(pipe)
        self.positions: dict[tuple[int, int], Tensor] = {}  # of an image's tokens; copied to the device once
        self.guidance_argument = "guidance_scale" if self.config.guidance_embeds else "true_cfg_scale"

    def check(self, prompt: Prompt) -> None:
        if prompt.negative and self.config.guidance_embeds:
            raise UserError(f"negative = {prompt.negative!r}: a guidance-distilled network has none; leave it empty")

    def uses_negative(self, guidance: float) -> bool:
        return guidance > 1 and not self.config.guidance_embeds

    def encode(self, prompt: Prompt, device: str) -> Row:
        text, pooled, _ = self.pipe.encode_prompt(prompt.text, None, device=device)
        if self.config.guidance_embeds:
            return text[0], pooled[0], torch.tensor(prompt.guidance, device=device)
        return text[0], pooled[0]

    def encode_negative(self, text: str, device: str) -> Row:
        return self.encode(Prompt(text), device)

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        text, pooled, *guidance = columns
        tokens, size = self.pack(samples)
        if size not in self.positions:
            self.positions[size] = self.pipe._prepare_latent_image_ids(1, *size, text.device, torch.float32)
        output = self.pipe.transformer(
            hidden_states=tokens,
            timestep=times,
            guidance=guidance[0] if guidance else None,
            pooled_projections=pooled,
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=text.device),
            img_ids=self.positions[size],
        ).sample
        return self.unpack(output, size)


class QwenImage(PackedFlow):
    """Qwen-Image. Texts have their own lengths, so a batch is padded; guidance keeps the norm of every token."""

    guidance_argument = "true_cfg_scale"  # its guidance_scale is for a distilled network, which is not published
    same_lengths = False
    trial_text = LONG_TEXT

    def encode(self, prompt: Prompt, device: str) -> Row:
        text, _ = self.pipe.encode_prompt(prompt.text, device, max_sequence_length=512)  # the pipeline's default
        return text[0], torch.ones(text.shape[1], dtype=torch.bool, device=device)

    def encode_negative(self, text: str, device: str) -> Row:
        return self.encode(Prompt(text), device)

    def columns(self, rows: list[Row]) -> list[Any]:
        texts, masks = (pad_sequence(list(column), batch_first=True) for column in zip(*rows, strict=True))
        padded = len({len(text) for text, _ in rows}) > 1
        return [texts, masks if padded else None]

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        text, mask = columns
        tokens, size = self.pack(samples)
        output = self.pipe.transformer(
            hidden_states=tokens,
            timestep=times,
            encoder_hidden_states=text,
            encoder_hidden_states_mask=mask,
            img_shapes=[[(1, *size)]] * len(samples),
        ).sample
        return self.unpack(output, size)

    def apply_guidance(self, positive: Tensor, negative: Tensor, scales: Tensor) -> Tensor:
        guided = super().apply_guidance(positive, negative, scales)
        before, after = (pixel_unshuffle(each, 2).norm(dim=1, keepdim=True) for each in (positive, guided))
        return guided * (before / after).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode with a VAE for video: an image is a video of one frame."""
        vae = self.pipe.vae
        mean, std = (
            latents.new_tensor(values)[:, None, None] for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return vae.decode((latents * std + mean)[:, :, None].to(vae.dtype)).sample[:, :, 0]


class ZImage(PipelineFamily):
    """Z-Image: reversed time (0 is noise). Its guidance adds to the prediction, so scale g here is 1 + g elsewhere."""

    prediction = "velocity"
    half_dtype = torch.bfloat16
    same_lengths = False
    trial_text = LONG_TEXT
    own_side: ClassVar[int] = 1024  # pixels; the pipeline's default, because its configuration names no size

    @property
    def own_shape(self) -> tuple[int, int, int]:
        return self.config.in_channels, self.own_side // self.scale, self.own_side // self.scale

    @property
    def patch(self) -> int:
        return 2

    def encode(self, prompt: Prompt, device: str) -> Row:
        texts, _ = self.pipe.encode_prompt(prompt.text, device, do_classifier_free_guidance=False)
        return (texts[0],)

    def encode_negative(self, text: str, device: str) -> Row:
        return self.encode(Prompt(text), device)

    def columns(self, rows: list[Row]) -> list[Any]:
        return [[text for (text,) in rows]]

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        output = self.pipe.transformer(list(samples.unsqueeze(2)), 1 - times, columns[0], return_dict=False)[0]
        return -torch.stack(output).squeeze(2)

    def apply_guidance(self, positive: Tensor, negative: Tensor, scales: Tensor) -> Tensor:
        return positive + scales * (positive - negative)


class AuraFlow(PipelineFamily):
    """AuraFlow. The text embeddings are zero after the end of the text, so there is no mask."""

    prediction = "velocity"

    @property
    def longest_side(self) -> int:
        return min(super().longest_side, int(self.config.pos_embed_max_size**0.5) * self.patch)

    def encode(self, prompt: Prompt, device: str) -> Row:
        return (self.pipe.encode_prompt(prompt.text, "", False, device=device)[0][0],)

    def encode_negative(self, text: str, device: str) -> Row:
        return (self.pipe.encode_prompt("", text, True, device=device)[2][0],)

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        return self.pipe.transformer(samples, encoder_hidden_states=columns[0], timestep=times.to(samples.dtype)).sample


class Sana(PipelineFamily):
    """Sana (Xie et al. 2024). The prompt is prefixed with an instruction to enhance it."""

    prediction = "velocity"
    half_dtype = torch.bfloat16

    def __init__(self, pipe: Any):
        super().__init__(pipe)
        self.instruction = inspect.signature(pipe.__call__).parameters["complex_human_instruction"].default

    def encode(self, prompt: Prompt, device: str) -> Row:
        text, mask, _, _ = self.pipe.encode_prompt(
            prompt.text, False, device=device, complex_human_instruction=self.instruction
        )
        return text[0], mask[0]

    def encode_negative(self, text: str, device: str) -> Row:
        _, _, negative, mask = self.pipe.encode_prompt(
            "", True, text, device=device, complex_human_instruction=self.instruction
        )
        return negative[0], mask[0]

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        text, mask = columns
        scale = self.pipe.scheduler.config.num_train_timesteps * self.config.timestep_scale
        return self.pipe.transformer(
            samples, encoder_hidden_states=text, encoder_attention_mask=mask, timestep=times * scale
        ).sample


class Lumina2(PipelineFamily):
    """Lumina Image 2.0: reversed time (0 is noise); guidance keeps the prediction's norm."""

    prediction = "velocity"
    half_dtype = torch.bfloat16

    def encode(self, prompt: Prompt, device: str) -> Row:
        text, mask, _, _ = self.pipe.encode_prompt(prompt.text, False, device=device)
        return text[0], mask[0]

    def encode_negative(self, text: str, device: str) -> Row:
        _, _, negative, mask = self.pipe.encode_prompt("", True, text, device=device)
        return negative[0], mask[0]

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        text, mask = columns
        return -self.pipe.transformer(
            samples, timestep=1 - times, encoder_hidden_states=text, encoder_attention_mask=mask
        ).sample

    def apply_guidance(self, positive: Tensor, negative: Tensor, scales: Tensor) -> Tensor:
        """Apply guidance, then restore the norm of each row of the latent image (the pipeline's default)."""
        guided = super().apply_guidance(positive, negative, scales)
        return guided * positive.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True)
