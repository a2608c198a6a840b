"""Families of pipelines whose network predicts noise: DiT, Stable Diffusion 1, 2 and XL, PixArt."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor

from edgebrush.errors import UserError

from .backend import Prompt, Size, size_text
from .pipeline_family import PipelineFamily, Row

WITHOUT_SAFETY_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


class Dit(PipelineFamily):
    """DiT (Peebles and Xie 2023): class-conditional; the prompt is the name or the number of a class."""

    trial_text = "0"

    def __init__(self, pipe: Any):
        super().__init__(pipe)
        self.classes = self.config.num_embeds_ada_norm  # this number, one past the last class, means no class
        self.labels = {str(number): number for number in range(self.classes)} | pipe.labels

    @property
    def scale(self) -> int:
        return 2 ** (len(self.pipe.vae.config.block_out_channels) - 1)

    def latent_shape(self, size: Size | None) -> tuple[int, int, int]:
        own = (self.config.sample_size * self.scale,) * 2
        if size not in (None, own):
            raise UserError(f"size = {size_text(size)}: a DiT has one size, {size_text(own)}")
        return self.own_shape

    def check(self, prompt: Prompt) -> None:
        if prompt.text not in self.labels:
            similar = difflib.get_close_matches(prompt.text, self.labels, cutoff=0.4)
            hint = f"; similar names: {'; '.join(similar)}" if similar else ""
            raise UserError(f"class = {prompt.text!r}: neither a class name nor a number below {self.classes}{hint}")
        if prompt.negative:
            raise UserError(f"negative = {prompt.negative!r}: a class-conditional pipeline has none; leave it empty")

    def encode(self, prompt: Prompt, device: str) -> Row:
        return (torch.tensor(self.labels[prompt.text], device=device),)

    def encode_negative(self, text: str, device: str) -> Row:
        return (torch.tensor(self.classes, device=device),)

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        output = self.pipe.transformer(samples, timestep=times.long(), class_labels=columns[0]).sample
        return output[:, : samples.shape[1]]  # the other channels are the learnt variance


class StableDiffusion(PipelineFamily):
    """Stable Diffusion 1 and 2. The safety checker is not loaded."""

    network_name = "unet"
    load_options = WITHOUT_SAFETY_CHECKER

    def encode(self, prompt: Prompt, device: str) -> Row:
        return (self.pipe.encode_prompt(prompt.text, device, 1, False)[0][0],)

    def encode_negative(self, text: str, device: str) -> Row:
        return (self.pipe.encode_prompt("", device, 1, True, text)[1][0],)

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        return self.pipe.unet(samples, times.long(), encoder_hidden_states=columns[0]).sample


class StableDiffusionXl(PipelineFamily):
    """Stable Diffusion XL: the network also takes the pooled text embedding and the image size."""

    network_name = "unet"

    def __init__(self, pipe: Any):
        super().__init__(pipe)
        self.size_inputs: dict[tuple[int, int], Tensor] = {}  # by latent size; copied to the device once

    def encode(self, prompt: Prompt, device: str) -> Row:
        text, _, pooled, _ = self.pipe.encode_prompt(prompt.text, device=device, do_classifier_free_guidance=False)
        return text[0], pooled[0]

    def encode_negative(self, text: str, device: str) -> Row:
        _, negative, _, pooled = self.pipe.encode_prompt(
            "",
            device=device,
            do_classifier_free_guidance=True,
            negative_prompt=text or None,  # None and "" differ: in training, no prompt was a zero embedding
        )
        return negative[0], pooled[0]

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        text, pooled = columns
        sizes = self.size_input(samples.shape[2], samples.shape[3], text).expand(len(samples), -1)
        added = {"text_embeds": pooled, "time_ids": sizes}
        return self.pipe.unet(samples, times.long(), encoder_hidden_states=text, added_cond_kwargs=added).sample

    def size_input(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """Return the original size, the crop and the target size, as the network takes them."""
        if (rows, columns) not in self.size_inputs:
            size = rows * self.scale, columns * self.scale
            self.size_inputs[rows, columns] = like.new_tensor([*size, 0, 0, *size])
        return self.size_inputs[rows, columns]


class PixArt(PipelineFamily):
    """PixArt-alpha and -sigma (Chen et al. 2023, 2024): the network also takes the text mask and the image size."""

    def encode(self, prompt: Prompt, device: str) -> Row:
        text, mask, _, _ = self.pipe.encode_prompt(prompt.text, False, device=device, clean_caption=True)
        return text[0], mask[0]

    def encode_negative(self, text: str, device: str) -> Row:
        _, _, negative, mask = self.pipe.encode_prompt("", True, text, device=device, clean_caption=True)
        return negative[0], mask[0]

    def predict(self, samples: Tensor, times: Tensor, columns: list[Any]) -> Tensor:
        text, mask = columns
        batch, _, rows, cols = samples.shape
        resolution = torch.cat(
            [samples.new_full((batch, 1), rows * self.scale), samples.new_full((batch, 1), cols * self.scale)], dim=1
        )
        output = self.pipe.transformer(
            samples,
            timestep=times.long(),
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            added_cond_kwargs={"resolution": resolution, "aspect_ratio": samples.new_full((batch, 1), rows / cols)},
        ).sample
        return output[:, : samples.shape[1]]  # the other channels are the learnt variance
