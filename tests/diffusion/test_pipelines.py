"""Images of tiny random pipelines equal those of the pipeline's own sampling; loading rejects what it cannot use."""

import json
import math
import shutil

import numpy as np
import pytest

from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Engine, Request
from edgebrush.diffusion.samplers import make_sampler
from edgebrush.errors import UserError

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.diffusers

from edgebrush.diffusion.pipeline_families import FAMILIES  # noqa: E402
from edgebrush.diffusion.pipelines import PipelineBackend, load_pipeline  # noqa: E402

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


def vae(channels=4, **options):
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
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
        sample_size=SIZE,
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
    return diffusers.Lumina2Pipeline(transformer, scheduler, vae(shift_factor=0.1), gemma(), tokenizer(folder))


MAKERS = {
    "dit": dit,
    "sd": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "flux": flux,
    "schnell": schnell,
    "sigma": pixart,
    "alpha": pixart_alpha,
    "aura": aura_flow,
    "sana": sana,
    "lumina": lumina_2,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One saved pipeline per family."""
    root = tmp_path_factory.mktemp("pipelines")
    for name, make in MAKERS.items():
        torch.manual_seed(1)
        make(root / "words").save_pretrained(root / name)
    index = root / "dit" / "model_index.json"  # as published pipelines have it
    index.write_text(json.dumps(json.loads(index.read_text()) | {"id2label": {3: "tiger shark", 7: "cock, rooster"}}))
    return root


@pytest.fixture(scope="module")
def backends(folders):
    return {kind: load(folders, kind) for kind in MAKERS}


def load(folders, kind):
    backend = load_pipeline(folders / kind)
    if kind in ("flux", "schnell"):
        backend.pipe.default_sample_size = SIZE  # the pipeline class sets 128 for every transformer
        return PipelineBackend(backend.pipe)
    return backend


def prompts(kind):
    if kind == "dit":
        return [Prompt("tiger shark"), Prompt("rooster", guidance=4.0), Prompt("999")]
    negative = "" if kind == "flux" else "b"
    return [Prompt("a b c"), Prompt("d a", guidance=4.0), Prompt("h", negative=negative, guidance=2.0)]


def pipeline_image(backend, kind, request):
    """The image that the pipeline itself generates from the same noise."""
    pipe, prompt, steps = backend.pipe, request.prompt, request.steps
    pipe.set_progress_bar_config(disable=True)
    options = {"guidance_scale": prompt.guidance, "num_inference_steps": steps, "output_type": "np"}
    noise = backend.noise(request.seed)[None]
    if kind == "dit":
        draw = torch.Generator().manual_seed(request.seed)
        image = pipe([pipe.labels.get(prompt.text, 999)], generator=draw, **options).images[0]
        return (image * 255).round().astype(np.uint8)
    requires_text = kind in ("schnell", "sigma", "alpha", "sana")
    options["negative_prompt"] = prompt.negative if requires_text else prompt.negative or None
    if kind == "sana":  # its own scheduler rounds the times
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
        pipe = diffusers.SanaPipeline(**pipe.components | {"scheduler": scheduler})
    if kind in ("sd3", "aura", "sana"):
        options["sigmas"] = (1.0 - np.arange(steps) / steps).tolist()
    if kind in ("flux", "schnell"):
        noise = pipe._pack_latents(noise, 1, *backend.shape)
    if kind == "schnell":
        options["true_cfg_scale"] = prompt.guidance
    if kind in ("sigma", "alpha", "sana"):
        options["use_resolution_binning"] = False
    image = pipe(prompt.text, latents=noise, **options).images[0]
    return (image * 255).round().astype(np.uint8)


def run_jobs(backend, requests, batch_limit):
    """Run requests in an engine and return the finished jobs."""
    sampler = make_sampler("euler" if backend.prediction == "velocity" else "ddim", backend)
    engine = Engine(backend, sampler, batch_limit, 10, 50)
    jobs = [engine.submit(request) for request in requests]
    while engine.round():
        pass
    assert [job.state for job in jobs] == ["done"] * len(jobs), [job.error for job in jobs]
    return jobs


@pytest.mark.parametrize("kind", MAKERS)
def test_images_equal_those_of_the_pipeline_itself(backends, kind):
    backend = backends[kind]
    steps = [4, 2, 5]  # divisors of DDIM's 1,000 training steps
    requests = [Request(prompt, count, n) for n, (prompt, count) in enumerate(zip(prompts(kind), steps, strict=True))]
    together, alone = run_jobs(backend, requests, 4), run_jobs(backend, requests, 1)
    for n, request in enumerate(requests):
        expected = pipeline_image(backend, kind, request)
        for job in (together[n], alone[n]):
            assert job.image.shape == expected.shape and job.image.dtype == np.uint8
            assert np.abs(job.image.astype(int) - expected).max() <= 1  # rounding, in another batch
    assert np.ptp(together[0].image) > 10


@pytest.mark.parametrize("kind", MAKERS)
def test_a_row_does_not_depend_on_the_others(backends, kind):
    backend = backends[kind]
    conditions = [backend.encode(each) for each in prompts(kind)]
    noise = [backend.noise(n) for n in range(len(conditions))]
    times = ([0.9, 0.5, 0.1] if backend.prediction == "velocity" else [900, 500, 100])[: len(conditions)]
    together = backend.predict(noise, times, conditions)
    for n, condition in enumerate(conditions):
        alone = backend.predict([noise[n]], [times[n]], [condition])[0]
        torch.testing.assert_close(together[n], alone, atol=1e-5, rtol=1e-4)


def test_v_prediction(tmp_path):
    torch.manual_seed(2)
    backend = PipelineBackend(stable_diffusion(tmp_path / "words", prediction_type="v_prediction"))
    (job,) = run_jobs(backend, [Request(Prompt("a", guidance=3.0), 4, 5)], 2)
    expected = pipeline_image(backend, "sd", job.request)
    assert np.abs(job.image.astype(int) - expected).max() <= 1


def test_a_pipeline_in_training_mode_is_set_to_evaluation(tmp_path):
    backend = PipelineBackend(dit(tmp_path))
    assert not any(part.training for part in (backend.pipe.transformer, backend.pipe.vae))
    condition, noise = backend.encode(Prompt("3")), backend.noise(0)
    rows = backend.predict([noise] * 50, [500] * 50, [condition] * 50)
    torch.testing.assert_close(rows, rows[:1].expand_as(rows))


@pytest.mark.parametrize("kind", MAKERS)
def test_half_precision_as_on_a_gpu(folders, backends, kind, monkeypatch):
    monkeypatch.setattr("edgebrush.diffusion.pipelines.network_dtype", lambda name, _: FAMILIES[name].half_dtype)
    halved = load(folders, kind)
    assert halved.network.dtype == halved.family.half_dtype and halved.pipe.vae.dtype == torch.float32
    time = 0.5 if halved.prediction == "velocity" else 500
    half, single = (
        backend.predict([backend.noise(0)], [time], [backend.encode(prompts(kind)[1])])
        for backend in (halved, backends[kind])
    )
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, single, atol=0.05, rtol=0.05)
    if kind in ("sigma", "alpha", "aura"):  # T5 overflows in float16, but for these layers
        assert halved.pipe.text_encoder.encoder.block[0].layer[1].DenseReluDense.wo.weight.dtype == torch.float32


def test_shift_and_schedule_come_from_the_scheduler(folders, backends):
    assert backends["sd3"].shift == 3.0 and backends["sd3"].alphas_cumprod is None
    # FLUX: exp(0.5) at 256 tokens, exp(1.15) at 4,096; the tiny transformer has 16.
    assert backends["flux"].shift == pytest.approx(math.exp(0.5 - 0.65 * 240 / 3840))
    assert load_pipeline(folders / "flux").shift == pytest.approx(math.exp(1.15))
    assert backends["schnell"].shift == backends["sana"].shift == 3.0
    assert backends["sd"].alphas_cumprod.shape == (1000,)
    with pytest.raises(UserError, match="sampler = 'euler': StableDiffusionPipeline predicts noise"):
        make_sampler("euler", backends["sd"])


@pytest.mark.parametrize(
    ("kind", "prompt", "message"),
    [
        (
            "dit",
            Prompt("tiger"),
            "class = 'tiger': neither a class name nor a number below 1000; similar names: tiger",
        ),
        ("dit", Prompt("tiger shark", negative="cock"), "negative = 'cock': a class-conditional pipeline"),
        ("flux", Prompt("a", negative="b"), "negative = 'b': a guidance-distilled network has none"),
        ("sd", Prompt("a", guidance=0.5), "guidance = 0.5: must be at least 1"),
        ("sd", Prompt("a", guidance=float("nan")), "guidance = nan"),
    ],
)
def test_bad_prompts(backends, kind, prompt, message):
    with pytest.raises(UserError, match=message):
        backends[kind].encode(prompt)


def test_an_unsupported_pipeline(folders, tmp_path):
    pipe = diffusers.DDPMPipeline(
        diffusers.UNet2DModel(
            8, block_out_channels=(32, 32), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2
        ),
        ddim(),
    )
    with pytest.raises(UserError, match="pipeline = DDPMPipeline: not supported; use one of DiT"):
        PipelineBackend(pipe)
    pipe.save_pretrained(tmp_path / "ddpm")
    with pytest.raises(UserError, match="pipeline = DDPMPipeline"):
        load_pipeline(tmp_path / "ddpm")


def test_a_scheduler_of_the_wrong_prediction_type(tmp_path):
    pipe = stable_diffusion(tmp_path / "words")
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(UserError, match=r"scheduler = FlowMatchEulerDiscreteScheduler .* noise prediction"):
        PipelineBackend(pipe)


def test_missing_and_damaged_pipelines(folders, tmp_path):
    with pytest.raises(UserError, match=r"not the folder of a diffusers pipeline: it has no model_index.json"):
        load_pipeline(tmp_path / "nowhere")
    broken = shutil.copytree(folders / "sd", tmp_path / "broken")
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="broken': cannot be loaded"):
        load_pipeline(broken)
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match="broken': cannot be loaded"):
        load_pipeline(broken)


def test_an_unknown_device(folders):
    with pytest.raises(UserError, match="device = 'abacus': torch cannot use it"):
        load_pipeline(folders / "dit", "abacus")
