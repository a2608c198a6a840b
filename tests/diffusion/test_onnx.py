"""The ONNX backend: rows are independent, prompts are checked, damaged files are rejected, shipped models run."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.onnx import load_model, shipped_models
from edgebrush.errors import UserError
from tests.support.processes import ENVIRONMENT


def test_each_row_has_its_own_time_and_class(tiny):
    noise = [tiny.noise(seed) for seed in range(3)]
    conditions = [tiny.encode(Prompt(name)) for name in ("star", "circle", "square")]
    velocity = tiny.predict(noise, [1.0, 0.5, 0.0], conditions)
    expected = np.stack([noise[0] + 2.0, 0.5 * noise[1], np.ones_like(noise[2])])
    np.testing.assert_allclose(velocity, expected, rtol=1e-6)


def test_noise_depends_only_on_the_seed(tiny):
    assert np.array_equal(tiny.noise(7), tiny.noise(7))
    assert not np.array_equal(tiny.noise(7), tiny.noise(8))
    assert tiny.noise(7).shape == tiny.shape and tiny.noise(7).dtype == np.float32


def test_decode_returns_a_grey_image(tiny):
    (image,) = tiny.decode([np.linspace(-2, 2, 784, dtype=np.float32).reshape(1, 28, 28)])
    assert image.shape == (28, 28) and image.dtype == np.uint8
    assert image[0, 0] == 0 and image[-1, -1] == 255


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt("cat"), "class = 'cat': tiny knows circle, square, star"),
        (Prompt("star", guidance=3.0), "guidance = 3, negative = '': tiny was trained without"),
        (Prompt("star", negative="blue"), "negative = 'blue'"),
    ],
)
def test_bad_prompts(tiny, prompt, message):
    with pytest.raises(UserError, match=message):
        tiny.encode(prompt)


def test_an_unknown_model(tmp_path):
    with pytest.raises(UserError, match="model = 'medium': neither a shipped model"):
        load_model("medium")
    with pytest.raises(UserError, match=r"nor a folder with model.onnx"):
        load_model(tmp_path)


def damage(folder, **changes):
    """Change the card; a value of None removes the field."""
    card = json.loads((folder / "model.json").read_text()) | changes
    (folder / "model.json").write_text(json.dumps({k: v for k, v in card.items() if v is not None}))


@pytest.fixture
def copied(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copied")


def test_a_damaged_card(copied):
    damage(copied, prediction="noise")
    with pytest.raises(UserError, match=r"model.json: prediction = 'noise': this backend supports velocity only"):
        load_model(copied)
    damage(copied, shape=None, classes=None)
    with pytest.raises(UserError, match=r"model.json: classes, shape missing"):
        load_model(copied)
    (copied / "model.json").write_text("{")
    with pytest.raises(UserError, match=r"model.json: not a readable model card"):
        load_model(copied)


def test_damaged_weights(copied):
    (copied / "model.onnx").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"model.onnx: ONNX Runtime cannot load it"):
        load_model(copied)
    (copied / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"model.onnx: no such file"):
        load_model(copied)


def test_a_network_with_other_inputs(copied):
    model = onnx.load(copied / "model.onnx")
    del model.graph.node[1:], model.graph.input[2]
    model.graph.node[0].output[0] = "velocity"
    onnx.save(model, copied / "model.onnx")
    with pytest.raises(UserError, match=r"model.onnx: its inputs are .* not .*label"):
        load_model(copied)


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_run(name):
    model = load_model(name)
    noise = model.noise(1)
    velocity = model.predict([noise, noise], [1.0, 0.5], [0, 1])
    assert velocity.shape == (2, *model.shape) and np.isfinite(velocity).all()
    alone = model.predict([noise], [0.5], [1])
    np.testing.assert_allclose(velocity[1], alone[0], atol=1e-5)


@pytest.mark.process
def test_onnx_runtime_reports_nothing_to_its_maker(tmp_path):
    """Its telemetry keeps a device id and a queue of events in the home folder."""
    silenced = ("CI", "ORT_DISABLE_TELEMETRY")  # either turns the telemetry off
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in silenced}
    code = "from edgebrush.diffusion.onnx import load_model; load_model('light')"
    subprocess.run([sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.rglob("*onnxruntime*"))
