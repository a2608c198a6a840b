"""CLIP from a local folder: embeddings of images and texts, and the CLIPScore. Needs the extra ``[diffusers]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torchmetrics.multimodal.clip_score import CLIPScore

from edgebrush.diffusion.backend import Prompt
from edgebrush.errors import UserError

from .image_files import as_rgb
from .quality import GROUPS, Score, check_enough

BATCH = 32  # images per evaluation of the network
CLIP_S = 2.5 / 100  # Hessel et al. (2021) scale the cosine by 2.5 to fill [0, 1]; torchmetrics by 100


class Clip:
    """CLIP (Radford et al. 2021) in transformers' format: ``config.json``, safetensors, tokenizer, image processor.

    torchmetrics uses it in the place of transformers' model. Raises ``UserError`` for another folder.
    """

    def __init__(self, folder: Path, device: str):
        if not (folder / "config.json").is_file():
            raise UserError(f"clip = {str(folder)!r}: not a folder with a CLIP model: it has no config.json")
        try:
            model: Any = transformers.CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            self.processor: Any = transformers.CLIPProcessor.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers and safetensors share no exception class
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"clip = {str(folder)!r}: CLIP cannot be loaded: {first_line}") from None
        self.model, self.device = model.eval(), device
        self.config = model.config
        model.to(device)

    def to(self, device: Any) -> Clip:
        """Return this, as torchmetrics asks for it: the images are on the model's device."""
        return self

    def get_image_features(self, *inputs: Tensor) -> Tensor:
        """Return the projected embeddings (n, d). torchmetrics 1.9 expects tensors, as transformers 4 gave them."""
        embeddings: Tensor = self.model.get_image_features(*inputs).pooler_output
        return embeddings

    def get_text_features(self, *inputs: Tensor) -> Tensor:
        """Return the projected embeddings (n, d)."""
        embeddings: Tensor = self.model.get_text_features(*inputs).pooler_output
        return embeddings

    @torch.no_grad()
    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the projected embeddings (n, d), float64, of uint8 images."""
        rows = []
        for first in range(0, len(images), BATCH):
            batch = [as_rgb(image) for image in images[first : first + BATCH]]
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"]
            rows.append(self.get_image_features(pixels.to(self.device)).double().cpu())
        features: np.ndarray = torch.cat(rows).numpy()
        return features

    def shortened(self, text: str) -> str:
        """Return what CLIP can read of a text: usually 77 tokens. A longer text would lose its last token, the end."""
        tokenizer, most = self.processor.tokenizer, self.config.text_config.max_position_embeddings
        if len(tokenizer(text)["input_ids"]) <= most:
            return text
        tokens = tokenizer(text, truncation=True, max_length=most)["input_ids"]
        return str(tokenizer.decode(tokens, skip_special_tokens=True))


class ClipScorer:
    """Quality = CLIP-S (Hessel et al. 2021): 2.5 times the cosine between image and prompt, at most 1.

    The part ``clip_score`` is torchmetrics' CLIPScore, 100 times the cosine.
    """

    def __init__(self, clip: Clip):
        self.clip = clip
        loaded: Any = lambda: (clip, clip.processor)  # noqa: E731  # torchmetrics takes a function, so that it loads none
        self.metric = CLIPScore(model_name_or_path=loaded).to(clip.device)

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> Score:
        """Score images; the standard error is that of the mean of ``GROUPS`` groups. Raises ``UserError``."""
        check_enough(len(images))
        groups = np.array_split(np.arange(len(images)), GROUPS)
        means = np.array([self.mean_score([images[n] for n in group], [prompts[n] for n in group]) for group in groups])
        mean = float(np.average(means, weights=[len(group) for group in groups]))
        error = float(means.std(ddof=1) / GROUPS**0.5)
        return Score(min(1.0, CLIP_S * mean), CLIP_S * error, len(images), {"clip_score": (mean, error)})

    @torch.no_grad()
    def mean_score(self, images: list[np.ndarray], prompts: list[Prompt]) -> float:
        """Return the mean CLIPScore of some images."""
        self.metric.reset()
        for first in range(0, len(images), BATCH):
            batch = [torch.from_numpy(as_rgb(image)).permute(2, 0, 1) for image in images[first : first + BATCH]]
            texts = [self.clip.shortened(prompt.text) for prompt in prompts[first : first + BATCH]]
            self.metric.update([image.to(self.clip.device) for image in batch], texts)
        return float(self.metric.compute())
