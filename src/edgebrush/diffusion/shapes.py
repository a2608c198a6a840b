"""Pipelines with the shapes of well-known models and random weights, to measure cost: it does not depend on weights.

The configurations are those published with the models (the ``config.json`` on their model pages). The tokenizer has
one word, because all texts are padded to the same length. Needs the extra ``[diffusers]``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import torch
import transformers

from edgebrush.errors import UserError

from .backend import Prompt
from .pipelines import PipelineBackend, check_device, network_dtype

WORD = "class"  # the tokenizer's only word, and the name of DiT's class 0
TOKENS = {"<|startoftext|>": 49406, "<|endoftext|>": 49407, f"{WORD}</w>": 0}


@dataclass(frozen=True)
class Shape:
    """Constructor arguments of a pipeline's parts: network (U-Net or transformer), VAE, text encoders."""

    pipeline: str  # class in diffusers
    network: dict[str, Any]
    vae: dict[str, Any] = field(default_factory=dict)
    text: tuple[dict[str, Any], ...] = ()


def latent_vae(widths: tuple[int, ...], image_px: int, **options: Any) -> dict[str, Any]:
    """Return the arguments of a VAE with four latent channels."""
    return {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": image_px,
        **options,
    }


def clip(width: int, layers: int, heads: int, **options: Any) -> dict[str, Any]:
    """Return the arguments of a CLIP text encoder."""
    return {
        "vocab_size": 49408,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "projection_dim": width,
        "bos_token_id": TOKENS["<|startoftext|>"],
        "eos_token_id": TOKENS["<|endoftext|>"],
        "pad_token_id": TOKENS["<|endoftext|>"],
        **options,
    }


VAE_WIDTHS = (128, 256, 512, 512)
TINY_VAE = latent_vae((8, 8), 16, norm_num_groups=4)
TINY_UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
SHAPES = {
    "sd15": Shape(
        "StableDiffusionPipeline",
        {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        latent_vae(VAE_WIDTHS, 512),
        (clip(768, 12, 12),),
    ),
    "sdxl": Shape(
        "StableDiffusionXLPipeline",
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        latent_vae(VAE_WIDTHS, 1024, scaling_factor=0.13025),
        (clip(768, 12, 12), clip(1280, 32, 20, hidden_act="gelu")),
    ),
    "dit-xl": Shape(
        "DiTPipeline",
        {
            "num_attention_heads": 16,
            "attention_head_dim": 72,
            "in_channels": 4,
            "out_channels": 8,
            "num_layers": 28,
            "sample_size": 64,
            "patch_size": 2,
            "num_embeds_ada_norm": 1000,
            "norm_type": "ada_norm_zero",
            "norm_elementwise_affine": False,
        },
        latent_vae(VAE_WIDTHS, 512),
    ),
    "tiny-sd15": Shape(
        "StableDiffusionPipeline", {**TINY_UNET, "cross_attention_dim": 32}, TINY_VAE, (clip(32, 1, 2),)
    ),
    "tiny-sdxl": Shape(
        "StableDiffusionXLPipeline",
        {
            **TINY_UNET,
            "cross_attention_dim": 64,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 6 * 8,
        },
        TINY_VAE,
        (clip(32, 1, 2), clip(32, 1, 2)),
    ),
    "tiny-dit-xl": Shape(
        "DiTPipeline",
        {
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "in_channels": 4,
            "out_channels": 8,
            "num_layers": 1,
            "sample_size": 8,
            "patch_size": 2,
            "num_embeds_ada_norm": 10,
            "norm_type": "ada_norm_zero",
        },
        TINY_VAE,
    ),
}


def build_shape(name: str, device: str) -> PipelineBackend:
    """Build a pipeline of a shape on a device. Raises ``UserError`` for an unknown shape."""
    if name not in SHAPES:
        raise UserError(f"model = {name!r}: no such shape; use one of {', '.join(SHAPES)}")
    torch.manual_seed(0)
    pipe = build_pipeline(SHAPES[name], check_device(device))
    backend = PipelineBackend(pipe.to(network_dtype(SHAPES[name].pipeline, device)), device)
    backend.name = f"{name} (random weights)"
    return backend


def shape_prompt(guidance: float | None = None) -> Prompt:
    """Return a prompt that every shape accepts."""
    return Prompt(WORD, guidance=guidance)


def build_pipeline(shape: Shape, device: str) -> Any:
    """Build a pipeline of a shape with random weights, drawn on the device: for SDXL, a CPU needs a minute."""
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    tokenizer, texts = one_word_tokenizer(), [transformers.CLIPTextConfig(**text) for text in shape.text]
    with torch.device(device):
        vae = diffusers.AutoencoderKL(**shape.vae)
        if shape.pipeline == "DiTPipeline":
            return diffusers.DiTPipeline(diffusers.DiTTransformer2DModel(**shape.network), vae, scheduler, {0: WORD})
        network = diffusers.UNet2DConditionModel(**shape.network)
        encoder = transformers.CLIPTextModel(texts[0])
        if len(texts) == 1:
            return diffusers.StableDiffusionPipeline(
                vae, encoder, tokenizer, network, scheduler, None, None, requires_safety_checker=False
            )
        pooled = transformers.CLIPTextModelWithProjection(texts[1])
    return diffusers.StableDiffusionXLPipeline(vae, encoder, pooled, tokenizer, tokenizer, network, scheduler)


def one_word_tokenizer() -> Any:
    """Build CLIP's tokenizer with its length and special tokens, and a vocabulary of one word."""
    with TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        vocabulary.write_text(json.dumps(TOKENS))
        merges.write_text("#version: 0.2\n")
        return transformers.CLIPTokenizer(
            str(vocabulary), str(merges), model_max_length=77, unk_token="<|endoftext|>", pad_token="<|endoftext|>"
        )
