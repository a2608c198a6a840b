"""Tiny random diffusers pipelines of every family, and what the pipeline's own call generates."""

import json

import diffusers
import numpy as np
import torch
import transformers

from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.flow_families import ZImage
from edgebrush.diffusion.pipelines import PipelineBackend, load_pipeline

SIZE = 8  # of a latent sample
WIDTH = 32  # of text embeddings
WORDS = {"<|startoftext|>": 0, "<|endoftext|>": 1, **{f"{c}</w>": n + 2 for n, c in enumerate("abcdefgh")}}


def tokenizer(folder):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(WORDS))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16, unk_token="<|endoftext|>"
    )


def text_encoder(kind="CLIPTextModel"):
    config = transformers.CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=WIDTH,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return getattr(transformers, kind)(config)


def t5(kind="T5"):
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(WORDS), d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    return getattr(transformers, f"{kind}EncoderModel")(config)


def vae(blocks=2, **options):
    return diffusers.AutoencoderKL(
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=4,
        sample_size=16,
        **options,
    )


def unet(**options):
    return diffusers.UNet2DConditionModel(
        sample_size=SIZE,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **options,
    )


def ddim(**options):
    return diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False, **options)


def dit(_, **options):
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=SIZE,
        patch_size=2,
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
    )
    # Zero-initialised by design: the class would make no difference.
    torch.nn.init.normal_(transformer.proj_out_2.weight, std=0.2)
    return diffusers.DiTPipeline(transformer, vae(), ddim(**options))


def stable_diffusion(folder, **options):
    return diffusers.StableDiffusionPipeline(
        vae(),
        text_encoder(),
        tokenizer(folder),
        unet(cross_attention_dim=WIDTH),
        ddim(**options),
        None,
        None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl(folder):
    network = unet(
        cross_attention_dim=2 * WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 6 * 8,
    )
    encoders = text_encoder(), text_encoder("CLIPTextModelWithProjection")
    words = tokenizer(folder)
    return diffusers.StableDiffusionXLPipeline(vae(), *encoders, words, words, network, ddim())


def stable_diffusion_3(folder):
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=SIZE,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH,
        out_channels=4,
    )
    encoders = [text_encoder("CLIPTextModelWithProjection") for _ in range(2)]
    words = tokenizer(folder)
    return diffusers.StableDiffusion3Pipeline(
        transformer,
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae(shift_factor=0.1),
        encoders[0],
        words,
        encoders[1],
        words,
        None,
        None,
    )


def flux(folder, distilled=True):
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=distilled,
        axes_dims_rope=(4, 6, 6),
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=distilled)
    words = tokenizer(folder)
    return diffusers.FluxPipeline(scheduler, vae(shift_factor=0.1), text_encoder(), words, t5(), words, transformer)


def schnell(folder):
    return flux(folder, distilled=False)


def pixart(folder, kind="PixArtSigmaPipeline", sample_size=SIZE, patch_size=2):
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        patch_size=patch_size,
        sample_size=sample_size,
        cross_attention_dim=24,
        caption_channels=WIDTH,
    )
    return getattr(diffusers, kind)(tokenizer(folder), t5(), vae(), transformer, ddim())


def pixart_alpha(folder):
    """PixArt-alpha uses the image size only at a sample size of 128."""
    return pixart(folder, "PixArtAlphaPipeline", sample_size=128, patch_size=32)


def aura_flow(folder):
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=SIZE,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pos_embed_max_size=64,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73)
    return diffusers.AuraFlowPipeline(tokenizer(folder), t5("UMT5"), vae(), transformer, scheduler)


def gemma():
    config = transformers.Gemma2Config(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    return transformers.Gemma2Model(config)


def sana(folder):
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        sample_size=4 * SIZE,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=WIDTH,
    )
    blocks = {"block_out_channels": (8, 8), "layers_per_block": (1, 1), "qkv_multiscales": ((), (5,))}
    autoencoder = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in blocks.items()},
    )
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return diffusers.SanaPipeline(tokenizer(folder), gemma(), autoencoder, transformer, scheduler)


def lumina_2(folder):
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=SIZE,
        in_channels=4,
        hidden_size=24,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(300, 16, 16),
        cap_feat_dim=WIDTH,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=6.0)
    eightfold = vae(blocks=4, shift_factor=0.1)  # the pipeline takes no other scale
    return diffusers.Lumina2Pipeline(transformer, scheduler, eightfold, gemma(), tokenizer(folder))


def qwen_image(folder):
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    autoencoder = diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.0, 1.5, 0.7, 2.0],
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
    )
    return diffusers.QwenImagePipeline(scheduler, autoencoder, gemma(), tokenizer(folder), transformer)


def z_image(folder):
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=24,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[4, 4, 4],
        axes_lens=[1024, 32, 32],
    )
    words = tokenizer(folder)
    words.chat_template = "{{ messages[0]['content'] }}"
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return diffusers.ZImagePipeline(scheduler, vae(shift_factor=0.1), gemma(), words, transformer)


MAKERS = {
    "dit": dit,
    "sd": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "flux": flux,
    "schnell": schnell,
    "qwen": qwen_image,
    "zimage": z_image,
    "sigma": pixart,
    "alpha": pixart_alpha,
    "aura": aura_flow,
    "sana": sana,
    "lumina": lumina_2,
}

PACKED = ("flux", "schnell", "qwen")  # the pipeline packs 2x2 latent pixels


def save(root, kind):
    """Save a tiny pipeline with random weights; returns its folder."""
    torch.manual_seed(1)
    MAKERS[kind](root / "words").save_pretrained(root / kind)
    if kind == "dit":  # as published pipelines have it
        index = root / "dit" / "model_index.json"
        labels = {"id2label": {3: "tiger shark", 7: "cock, rooster"}}
        index.write_text(json.dumps(json.loads(index.read_text()) | labels))
    return root / kind


def save_standard_size(root, name, seed):
    """Save a tiny Stable Diffusion whose images have a standard size, 256 px; returns its folder."""
    torch.manual_seed(seed)
    pipe = stable_diffusion(root / "words")
    pipe.unet.register_to_config(sample_size=32)
    diffusers.StableDiffusionPipeline(
        vae(blocks=4),
        pipe.text_encoder,
        pipe.tokenizer,
        pipe.unet,
        pipe.scheduler,
        None,
        None,
        requires_safety_checker=False,
    ).save_pretrained(root / name)
    return root / name


def load(folders, kind, device="cpu"):
    ZImage.own_side = 2 * SIZE
    backend = load_pipeline(folders / kind, device)
    if kind in PACKED:
        backend.pipe.default_sample_size = SIZE  # the pipeline class sets 128 for every transformer
        return PipelineBackend(backend.pipe, device)
    return backend


def prompts(kind):
    if kind == "dit":
        return [Prompt("tiger shark", guidance=1.0), Prompt("rooster", guidance=4.0), Prompt("999")]
    negative = "" if kind == "flux" else "b"
    return [Prompt("a b c", guidance=1.0), Prompt("d a", guidance=4.0), Prompt("h", negative=negative, guidance=2.0)]


def pipeline_image(backend, kind, request):
    """The image that the pipeline itself generates from the same noise; with its own guidance if none is stated."""
    pipe, prompt, steps = backend.pipe, request.prompt, request.steps
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": steps, "output_type": "np"}
    if prompt.guidance is not None:
        argument = "true_cfg_scale" if kind in ("schnell", "qwen") else "guidance_scale"
        options[argument] = 0.0 if kind == "zimage" and prompt.guidance == 1 else prompt.guidance
    noise = backend.noise(request.seed, request.size)[None]
    if request.size:
        options["width"], options["height"] = request.size
    if kind == "dit":
        draw = torch.Generator().manual_seed(request.seed)
        image = pipe([pipe.labels.get(prompt.text, 999)], generator=draw, **options).images[0]
        return (image * 255).round().astype(np.uint8)
    requires_text = kind in ("schnell", "qwen", "zimage", "sigma", "alpha", "sana")
    options["negative_prompt"] = prompt.negative if requires_text else prompt.negative or None
    if kind == "sana":  # its own scheduler rounds the times
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
        pipe = diffusers.SanaPipeline(**pipe.components | {"scheduler": scheduler})
    if kind in ("sd3", "aura", "sana"):
        options["sigmas"] = (1.0 - np.arange(steps) / steps).tolist()
    if kind in PACKED:
        noise = pipe._pack_latents(noise, 1, *noise.shape[1:])
    if kind == "zimage":
        options["width"], options["height"] = request.size or (2 * SIZE, 2 * SIZE)
    if kind in ("sigma", "alpha", "sana"):
        options["use_resolution_binning"] = False
    image = pipe(prompt.text, latents=noise, **options).images[0]
    return (image * 255).round().astype(np.uint8)


def save_clip(folder):
    """Save a tiny CLIP with random weights in transformers' format; returns the folder."""
    torch.manual_seed(6)  # its cosines are positive
    text = text_encoder("CLIPTextModelWithProjection").config.to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 4}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    transformers.CLIPModel(config).save_pretrained(folder)
    pixels = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    transformers.CLIPProcessor(pixels, tokenizer(folder / "words")).save_pretrained(folder)
    return folder


class TinyInception(torch.nn.Module):
    """Nine features: the mean, the roughness and the range of each colour."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        x = images.float() / 255
        roughness = (x[:, :, 1:] - x[:, :, :-1]).abs().mean((2, 3))
        ranges = x.amax((2, 3)) - x.amin((2, 3))
        return torch.cat([x.mean((2, 3)), roughness, ranges], dim=1)
