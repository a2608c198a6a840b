"""Diffusers pipelines on the command line: `serve`, `generate` and `ue` give the images of the pipeline's own call."""

import csv
import io
import re
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from edgebrush.cli.main import run
from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Request
from edgebrush.profiles.catalogue import load_profile

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.diffusers

from tests.support.pipelines import TinyInception, load, pipeline_image, save, save_clip  # noqa: E402

PROMPT = Prompt("d a", negative="b", guidance=4.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    save(root, "sd3")
    return root


@pytest.fixture(scope="module")
def expected(root):
    """The images of ``PROMPT`` with seed 7 and 5 steps, of the model's own size and of another one."""
    backend = load(root, "sd3")
    return {size: pipeline_image(backend, "sd3", Request(PROMPT, 5, 7, size=size)) for size in (None, (24, 8))}


def assert_close(image, expected):
    assert image.shape == expected.shape and np.abs(image.astype(int) - expected).max() <= 1


@pytest.fixture
def apps(monkeypatch):
    """The applications that `serve` and `ue` would run."""
    apps = []
    monkeypatch.setattr("edgebrush.api.server.Server", lambda app, *_: apps.append(app))
    monkeypatch.setattr("edgebrush.api.server.run", lambda server: None)
    return apps


def image_of(client, body):
    reply = client.post("/v1/images/generations", json=body).json()
    return np.asarray(Image.open(io.BytesIO(b64decode(reply["data"][0]["b64_json"]))))


def test_serve(root, expected, apps, capsys):
    options = ["--pipeline", str(root / "sd3"), "--profile", "sd15-a100", "--batch-limit", "3", "--name", "bs-1"]
    assert run(["serve", *options]) == 0
    assert "bs-1: sd3 on cpu: guidance 7, batches of at most 3, warm-up" in capsys.readouterr().err
    body = {"prompt": PROMPT.text, "negative_prompt": PROMPT.negative, "guidance_scale": PROMPT.guidance}
    body |= {"num_inference_steps": 5, "seed": 7, "response_format": "url"}
    with TestClient(apps[0], base_url="http://127.0.0.1") as client:
        assert client.get("/v1/models").json()["data"][0]["id"] == "sd3"
        assert client.get("/v1/load").json()["batch_limit"] == 3
        for size, image in expected.items():
            asked = body | {"size": "24x8" if size else "auto"}
            reply = client.post("/v1/images/generations", json=asked).json()
            picture = Image.open(io.BytesIO(client.get(reply["data"][0]["url"]).content))
            assert_close(np.asarray(picture), image)
        assert client.post("/v1/images/generations", json=body | {"size": "25x8"}).status_code == 400


def test_a_request_without_guidance_has_the_pipelines_own_or_that_of_the_option(root, expected, apps, capsys):
    body = {"prompt": PROMPT.text, "negative_prompt": PROMPT.negative, "num_inference_steps": 5, "seed": 7}
    own = pipeline_image(load(root, "sd3"), "sd3", Request(replace(PROMPT, guidance=None), 5, 7))
    for more, scale, image in (([], 7.0, own), (["--guidance", "4"], 4.0, expected[None])):
        assert run(["serve", "--pipeline", str(root / "sd3"), "--profile", "sd15-a100", *more]) == 0
        with TestClient(apps[-1], base_url="http://127.0.0.1") as client:
            assert client.get("/v1/models").json()["data"][0]["guidance_scale"] == scale
            assert_close(image_of(client, body), image)
            assert_close(image_of(client, body | {"guidance_scale": 4.0}), expected[None])


def test_the_own_device_of_a_ue_has_the_same_guidance(root, expected, apps, tmp_path, capsys):
    own = pipeline_image(load(root, "sd3"), "sd3", Request(replace(PROMPT, guidance=None), 10, 7))
    four = pipeline_image(load(root, "sd3"), "sd3", Request(PROMPT, 10, 7))
    body = {"prompt": PROMPT.text, "negative_prompt": PROMPT.negative, "seed": 7}
    for more, scale, image in (([], 7, own), (["--guidance", "4"], 4, four)):
        options = ["--pipeline", str(root / "sd3"), "--policy", "local-only", "--journal", str(tmp_path / f"j{scale}")]
        assert run(["ue", "testbed", *options, *more]) == 0
        assert f"own device: sd3 on cpu: guidance {scale}\n" in capsys.readouterr().err
        with TestClient(apps[-1], base_url="http://127.0.0.1") as client:
            difference = np.abs(image_of(client, body).astype(int) - image)
            assert difference.mean() < 1 < np.abs(own.astype(int) - four).mean()  # guidance adds to rounding


def test_generate(root, expected, tmp_path, capsys):
    options = ["generate", "--pipeline", str(root / "sd3"), "--steps", "5", "--negative", "b", "--guidance", "4"]
    options += ["--threads", "1"]
    out = tmp_path / "image.png"
    assert run([*options, "--prompt", "d a", "--seed", "7", "--out", str(out)]) == 0
    assert_close(np.asarray(Image.open(out)), expected[None])
    assert run([*options, "--dtype", "bfloat16", "--prompt", "d a", "--seed", "7", "--out", str(out)]) == 0
    assert 0 < np.abs(np.asarray(Image.open(out)).astype(int) - expected[None]).mean() < 3
    two = [*options, "--prompt", "h", "--prompt", "d a", "--seed", "6", "--count", "2", "--size", "24x8"]
    assert run([*two, "--out", str(out)]) == 0
    sheet = np.asarray(Image.open(out))
    assert sheet.shape == (16, 48, 3)
    assert_close(sheet[8:, 24:], expected[24, 8])  # the second prompt, the second seed
    capsys.readouterr()
    for more, message in (
        ([], "prompt: missing"),
        (["--prompt", "a", "--size", "large"], "size = 'large': must be WIDTHxHEIGHT"),
        (["--prompt", "a", "--size", "25x8"], "size = 25x8: this model's own is 16x16; use multiples of 2"),
        (["--prompt", "a", "--sampler", "ddim"], "sampler = 'ddim'"),
        (["--prompt", "a", "--device", "cuda"], "device = 'cuda': PyTorch finds no GPU"),
    ):
        assert run([*options, *more, "--out", str(tmp_path / "no.png")]) == 2
        assert message in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert not (tmp_path / "no.png").exists()


def test_the_own_device_of_a_ue(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with open("tasks.csv", "w", newline="") as file:
        csv.writer(file).writerows([("at_s", "prompt", "request", "seed"), (0.0, "d a", "idle", 7)])
    options = ["--pipeline", str(root / "sd3"), "--policy", "local-only", "--tasks", "tasks.csv", "--journal", "j"]
    assert run(["ue", "testbed", *options]) == 0
    assert "1 images, 0 errors" in capsys.readouterr().out


def test_a_folder_without_a_pipeline_and_a_missing_profile_are_user_errors(tmp_path, capsys):
    assert run(["serve", "--pipeline", str(tmp_path), "--profile", "sd15-a100", "--port", "0"]) == 2
    assert "not the folder of a diffusers pipeline" in capsys.readouterr().err
    assert run(["serve", "--pipeline", str(tmp_path), "--port", "0"]) == 2
    assert "has none; measure one with `edgebrush profile` and give --profile" in capsys.readouterr().err


@pytest.fixture(scope="module")
def networks(root):
    """CLIP, Inception and real images on disk, as options of `profile`."""
    pytest.importorskip("torchmetrics")
    (root / "real").mkdir()
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 255, (20, 20, 3), np.uint8)
        Image.fromarray(noise).save(root / "real" / f"{number}.png")
    save_clip(root / "tiny-clip")
    torch.jit.script(TinyInception()).save(str(root / "inception.pt"))
    return {name: f"--{name}={root / file}" for name, file in FILES.items()}


FILES = {"clip": "tiny-clip", "inception": "inception.pt", "reference": "real"}


@pytest.mark.parametrize(
    ("metric", "needs", "source"),
    [
        ("clip-score", ["clip"], r"CLIPScore with CLIP tiny-clip \w{8} \(Q = CLIP-S = CLIPScore / 40\)"),
        (
            "fid",
            ["inception", "reference"],
            r"FID by Inception V3 inception.pt \w{8} to 20 images of real \w{8} \(Q = F / \(F \+ distance\), F = ",
        ),
        (
            "clip-fid",
            ["clip", "reference"],
            r"Fréchet distance of the image embeddings of CLIP tiny-clip \w{8} to 20 images of real \w{8} \(Q = F",
        ),
    ],
)
def test_the_quality_of_a_pipeline_is_measured(root, networks, tmp_path, monkeypatch, metric, needs, source):
    monkeypatch.setattr("edgebrush.profiling.measure.MIN_TIMING_S", 0.0)
    (tmp_path / "prompts.txt").write_text("a b\nc d\n")
    options = ["--steps", "1,2,4", "--samples", "20", "--batches", "1,4,16", "--watts", "15", "--guidance", "2"]
    options += ["--prompts", str(tmp_path / "prompts.txt"), "--quality", metric, *(networks[name] for name in needs)]
    assert run(["profile", "--pipeline", str(root / "sd3"), *options, "--out", str(tmp_path / "my.json")]) == 0
    profile = load_profile(str(tmp_path / "my.json"))
    assert re.search(source, profile.quality.source) and len(profile.quality.points) == 3
    assert profile.compute.guidance == 2.0
    assert f"{metric.replace('-', '_')},4," in (tmp_path / "my.csv").read_text()


def test_a_pipeline_without_a_way_to_score_its_images_is_a_user_error(root, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a b\n")
    options = ["--prompts", str(tmp_path / "prompts.txt"), "--watts", "15", "--out", str(tmp_path / "my.json")]
    assert run(["profile", "--pipeline", str(root / "sd3"), *options]) == 2
    assert "quality: missing; sd3 is a pipeline; give --quality, --scorer, or --quality-from" in capsys.readouterr().err
    assert run(["profile", "--pipeline", str(root / "sd3"), *options, "--quality", "clip-score", "--clip", "x"]) == 2
    assert "clip = 'x': not a folder with a CLIP model" in capsys.readouterr().err
    assert not (tmp_path / "my.work").exists()
