"""Tiny pipelines with random weights, saved and loaded; the reference is each pipeline's own way of sampling."""

import json
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

from edgebrush.diffusion.pipelines import PipelineBackend, load_pipeline  # noqa: E402

STEPS = 4
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
        vocab_size=len(WORDS), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=WIDTH, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return getattr(transformers, kind)(config)


def vae(channels=4, **options):
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=channels, sample_size=16, **options,
    )  # fmt: skip


def unet(**options):
    return diffusers.UNet2DConditionModel(
        sample_size=SIZE, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **options,
    )  # fmt: skip


def ddim(**options):
    return diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False, **options)


def dit(_, **options):
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=SIZE,
        patch_size=2, num_embeds_ada_norm=1000, norm_type="ada_norm_zero",
    )  # fmt: skip
    # Zero-initialised by design: the class would make no difference.
    torch.nn.init.normal_(transformer.proj_out_2.weight, std=0.2)
    return diffusers.DiTPipeline(transformer, vae(), ddim(**options))


def stable_diffusion(folder, **options):
    return diffusers.StableDiffusionPipeline(
        vae(), text_encoder(), tokenizer(folder), unet(cross_attention_dim=WIDTH), ddim(**options), None, None,
        requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl(folder):
    network = unet(
        cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 6 * 8,
    )  # fmt: skip
    encoders = text_encoder(), text_encoder("CLIPTextModelWithProjection")
    words = tokenizer(folder)
    return diffusers.StableDiffusionXLPipeline(vae(), *encoders, words, words, network, ddim())


def stable_diffusion_3(folder):
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=SIZE, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=2 * WIDTH, caption_projection_dim=32, pooled_projection_dim=2 * WIDTH, out_channels=4,
    )  # fmt: skip
    encoders = [text_encoder("CLIPTextModelWithProjection") for _ in range(2)]
    words = tokenizer(folder)
    return diffusers.StableDiffusion3Pipeline(
        transformer, diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), vae(shift_factor=0.1),
        encoders[0], words, encoders[1], words, None, None,
    )  # fmt: skip


MAKERS = {"dit": dit, "sd": stable_diffusion, "sdxl": stable_diffusion_xl, "sd3": stable_diffusion_3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each kind's pipeline, saved."""
    root = tmp_path_factory.mktemp("pipelines")
    for name, make in MAKERS.items():
        torch.manual_seed(1)
        make(root / "words").save_pretrained(root / name)
    index = root / "dit" / "model_index.json"  # as published ones have it
    index.write_text(json.dumps(json.loads(index.read_text()) | {"id2label": {3: "tiger shark", 7: "cock, rooster"}}))
    return root


@pytest.fixture(scope="module")
def backends(folders):
    return {name: load_pipeline(folders / name) for name in MAKERS}


def prompts(kind):
    if kind == "dit":
        return [Prompt("tiger shark"), Prompt("rooster", guidance=4.0), Prompt("999")]
    return [Prompt("a b c"), Prompt("d a", guidance=4.0), Prompt("h", negative="b", guidance=2.0)]


def by_the_pipeline(backend, kind, prompt, seed):
    """The image that the pipeline makes of the same noise by itself."""
    pipe, noise = backend.pipe, backend.noise(seed)[None]
    pipe.set_progress_bar_config(disable=True)
    if kind == "dit":
        draw = torch.Generator().manual_seed(seed)
        label = pipe.labels.get(prompt.text, 999)
        image = pipe([label], prompt.guidance, draw, STEPS, output_type="np").images[0]
    else:
        grid = {"sigmas": (1.0 - np.arange(STEPS) / STEPS).tolist()} if kind == "sd3" else {}
        image = pipe(
            prompt.text, negative_prompt=prompt.negative or None, guidance_scale=prompt.guidance, latents=noise,
            num_inference_steps=STEPS, output_type="np", **grid,
        ).images[0]  # fmt: skip
    return (image * 255).round().astype(np.uint8)


@pytest.mark.parametrize("kind", MAKERS)
def test_images_are_those_of_the_pipeline_itself(backends, kind):
    backend = backends[kind]
    engine = Engine(backend, make_sampler("euler" if kind == "sd3" else "ddim", backend), 4, 10, 50)
    jobs = [engine.submit(Request(prompt, STEPS, seed)) for seed, prompt in enumerate(prompts(kind))]
    while engine.round():
        pass
    for job in jobs:
        assert job.state == "done", job.error
        expected = by_the_pipeline(backend, kind, job.request.prompt, job.request.seed)
        assert job.image.shape == expected.shape and job.image.dtype == np.uint8
        assert np.abs(job.image.astype(int) - expected).max() <= 1  # rounding, in another batch
    assert np.ptp(jobs[0].image) > 10


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
    engine = Engine(backend, make_sampler("ddim", backend), 2, 2, 50)
    job = engine.submit(Request(Prompt("a", guidance=3.0), STEPS, 5))
    while engine.round():
        pass
    expected = by_the_pipeline(backend, "sd", job.request.prompt, 5)
    assert np.abs(job.image.astype(int) - expected).max() <= 1


def test_a_pipeline_in_training_is_taken_out_of_it(tmp_path):
    backend = PipelineBackend(dit(tmp_path))
    assert not any(part.training for part in (backend.pipe.transformer, backend.pipe.vae))
    condition, noise = backend.encode(Prompt("3")), backend.noise(0)
    rows = backend.predict([noise] * 50, [500] * 50, [condition] * 50)
    torch.testing.assert_close(rows, rows[:1].expand_as(rows))


@pytest.mark.parametrize("kind", MAKERS)
def test_half_precision_as_on_a_gpu(folders, kind):
    backend = load_pipeline(folders / kind)

    def predicted():
        return backend.predict([backend.noise(0)], [0.5 if kind == "sd3" else 500], [backend.encode(prompts(kind)[1])])

    single = predicted()
    backend.pipe.to(torch.float16)
    half = predicted()
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, single, atol=0.05, rtol=0.05)


def test_what_the_scheduler_tells(backends):
    assert backends["sd3"].shift == 3.0 and backends["sd3"].alphas_cumprod is None
    assert backends["sd"].alphas_cumprod.shape == (1000,)
    with pytest.raises(UserError, match="sampler = 'euler': StableDiffusionPipeline predicts noise"):
        make_sampler("euler", backends["sd"])


@pytest.mark.parametrize(
    ("kind", "prompt", "message"),
    [
        ("dit", Prompt("tiger"), "class = 'tiger': neither a name nor a number below 1000; near to it: tiger shark"),
        ("dit", Prompt("tiger shark", negative="cock"), "negative = 'cock': a class-conditional pipeline"),
        ("sd", Prompt("a", guidance=0.5), "guidance = 0.5: must be at least 1"),
        ("sd", Prompt("a", guidance=float("nan")), "guidance = nan"),
    ],
)
def test_bad_prompts(backends, kind, prompt, message):
    with pytest.raises(UserError, match=message):
        backends[kind].encode(prompt)


def test_a_pipeline_of_another_kind(folders, tmp_path):
    pipe = diffusers.DDPMPipeline(diffusers.UNet2DModel(8, block_out_channels=(32, 32),
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2), ddim())  # fmt: skip
    with pytest.raises(UserError, match="pipeline = DDPMPipeline: not a kind that is known here; those are DiT"):
        PipelineBackend(pipe)
    pipe.save_pretrained(tmp_path / "ddpm")
    with pytest.raises(UserError, match="pipeline = DDPMPipeline"):
        load_pipeline(tmp_path / "ddpm")


def test_a_scheduler_of_another_family(tmp_path):
    pipe = stable_diffusion(tmp_path / "words")
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(UserError, match=r"scheduler FlowMatchEulerDiscreteScheduler .* noise prediction"):
        PipelineBackend(pipe)


def test_folders_that_hold_no_sound_pipeline(folders, tmp_path):
    with pytest.raises(UserError, match=r"not a folder with a diffusers pipeline \(model_index.json\)"):
        load_pipeline(tmp_path / "nowhere")
    broken = shutil.copytree(folders / "sd", tmp_path / "broken")
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="broken': cannot be loaded"):
        load_pipeline(broken)
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match="broken': cannot be loaded"):
        load_pipeline(broken)


def test_a_device_that_is_not_there(folders):
    with pytest.raises(UserError, match="device = 'abacus': torch cannot use it"):
        load_pipeline(folders / "dit", "abacus")
