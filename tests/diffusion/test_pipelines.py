"""Images of tiny random pipelines equal those of the pipeline's own sampling; loading rejects what it cannot use."""

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
from tests.support.pipelines import MAKERS, ddim, dit, load, pipeline_image, prompts, save, stable_diffusion  # noqa: E402


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One saved pipeline per family."""
    root = tmp_path_factory.mktemp("pipelines")
    for kind in MAKERS:
        save(root, kind)
    return root


@pytest.fixture(scope="module")
def backends(folders):
    return {kind: load(folders, kind) for kind in MAKERS}


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


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "dit"])
def test_images_of_several_sizes_share_a_batch(backends, kind):
    backend = backends[kind]
    own = {"alpha": 256, "sana": 64, "lumina": 64}.get(kind, 16)
    wide, tall = (own * 3 // 2, own // 2), (own // 2, own)
    requests = [Request(prompts(kind)[1], 2, n, size=size) for n, size in enumerate((wide, None, tall, wide))]
    for job in run_jobs(backend, requests, 4):
        assert job.image.shape[1::-1] == (job.request.size or (own, own))
        expected = pipeline_image(backend, kind, job.request)
        assert np.abs(job.image.astype(int) - expected).max() <= 1


DEFAULTS = {"dit": 4.0, "sd": 7.5, "sdxl": 5.0, "sd3": 7.0, "flux": 3.5, "schnell": 1.0, "qwen": 4.0, "zimage": 5.0}
DEFAULTS |= {"sigma": 4.5, "alpha": 4.5, "aura": 3.5, "sana": 4.5, "lumina": 4.0}  # diffusers 0.42


@pytest.mark.parametrize("kind", MAKERS)
def test_a_prompt_without_guidance_has_that_of_the_pipelines_own_call(backends, kind):
    backend, text = backends[kind], "rooster" if kind == "dit" else "d a"
    assert backend.guidance == DEFAULTS[kind]
    (job,) = run_jobs(backend, [Request(Prompt(text), 2, 3)], 1)
    assert np.abs(job.image.astype(int) - pipeline_image(backend, kind, job.request)).max() <= 1
    condition = backend.encode(Prompt(text))
    assert condition.guidance == DEFAULTS[kind]
    assert (condition.negative is None) == (kind in ("flux", "schnell"))  # distilled


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("sd", (15, 16), "size = 15x16: this model's own is 16x16; use multiples of 2"),
        ("flux", (10, 16), "size = 10x16: .*; use multiples of 4"),
        ("sd", (0, 16), "size = 0x16"),
        ("sd", (16, 18), "size = 16x18: .*; use no more pixels than that and no side above 32"),
        ("sd", (40, 2), "no side above 32"),
        ("dit", (8, 8), "size = 8x8: a DiT has one size, 16x16"),
    ],
)
def test_sizes_that_a_model_cannot_generate(backends, kind, size, message):
    with pytest.raises(UserError, match=message):
        backends[kind].check_size(size)


def test_a_negative_prompt_is_encoded_once(backends, monkeypatch):
    backend, texts = backends["sd"], []
    encode = backend.family.encode_negative
    monkeypatch.setattr(
        backend.family, "encode_negative", lambda text, device: texts.append(text) or encode(text, device)
    )
    backend.encode_negative.cache_clear()
    first, second = (backend.encode(Prompt(text, negative="c d", guidance=3.0)) for text in ("a", "b"))
    assert texts == ["c d"] and first.negative is second.negative
    backend.encode(Prompt("a", guidance=1.0))
    assert texts == ["c d"]


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
    torch.testing.assert_close(rows, rows[:1] * 50)


@pytest.mark.parametrize("kind", MAKERS)
def test_half_precision_as_on_a_gpu(folders, backends, kind, monkeypatch):
    monkeypatch.setattr("edgebrush.diffusion.pipelines.network_dtype", lambda name, _: FAMILIES[name].half_dtype)
    halved = load(folders, kind)
    assert halved.network.dtype == halved.family.half_dtype and halved.pipe.vae.dtype == torch.float32
    time = 0.5 if halved.prediction == "velocity" else 500
    half, single = (
        backend.predict([backend.noise(0)], [time], [backend.encode(prompts(kind)[1])])[0]
        for backend in (halved, backends[kind])
    )
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, single, atol=0.1, rtol=0.05)
    if kind in ("sigma", "alpha", "aura"):  # T5 overflows in float16, but for these layers
        assert halved.pipe.text_encoder.encoder.block[0].layer[1].DenseReluDense.wo.weight.dtype == torch.float32


def test_shift_and_schedule_come_from_the_scheduler(folders, backends):
    assert backends["sd3"].shift == 3.0 and backends["sd3"].alphas_cumprod is None
    # FLUX: exp(0.5) at 256 tokens, exp(1.15) at 4,096; the tiny transformer has 16, an image of 8x16 pixels 8.
    shift, half = backends["flux"].shift, np.array([0.5, 0.0])
    for shape, tokens in (((4, 8, 8), 16), ((4, 8, 4), 8), ((4, 128, 128), 4096)):
        assert shift(half, shape)[0] == pytest.approx(1 / (1 + math.exp(-(0.5 + 0.65 * (tokens - 256) / 3840))))
    assert backends["schnell"].shift == backends["sana"].shift == 3.0
    assert backends["sd"].alphas_cumprod.shape == (1000,)
    with pytest.raises(UserError, match="sampler = 'euler': sd predicts noise"):
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
