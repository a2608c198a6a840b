"""A resumed training equals an uninterrupted one; the export has independent rows; bad checkpoints are rejected."""

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [diffusers]")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.diffusers

from safetensors.numpy import load_file  # noqa: E402

from edgebrush.diffusion.onnx import GRAPH  # noqa: E402
from edgebrush.diffusion.training.checkpoint import CHECKPOINT, TrainingSettings  # noqa: E402
from edgebrush.diffusion.training.data import ImageSet  # noqa: E402
from edgebrush.diffusion.training.train import train  # noqa: E402
from edgebrush.errors import UserError  # noqa: E402
from edgebrush.progress import no_progress  # noqa: E402

SETTINGS = TrainingSettings(images=24, batch=4, warm_up=2, cool_down=1e-9)  # no cool-down: it depends on the total


@pytest.fixture(scope="module")
def data():
    draw = np.random.default_rng(1)
    return ImageSet(draw.integers(0, 256, (16, 28, 28), dtype=np.uint8), np.arange(16) % 3, ("a", "b", "c"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("light")
    train("light", data, folder, SETTINGS, no_progress)
    return folder


def test_a_resumed_training_equals_an_uninterrupted_one(data, trained, tmp_path):
    train("light", data, tmp_path, replace(SETTINGS, images=12), no_progress)
    train("light", data, tmp_path, SETTINGS, no_progress)
    half, whole = load_file(tmp_path / CHECKPOINT), load_file(trained / CHECKPOINT)
    assert all(np.array_equal(half[name], whole[name]) for name in whole)
    assert not np.array_equal(whole["network.unet.conv_in.weight"], whole["average.unet.conv_in.weight"])


def test_the_export_computes_each_row_at_its_own_time(trained):
    session = onnxruntime.InferenceSession(trained / GRAPH)
    draw = np.random.default_rng(2)
    sample = draw.standard_normal((5, 1, 28, 28)).astype(np.float32)
    time, label = np.linspace(0, 1, 5, dtype=np.float32), np.array([0, 1, 2, 0, 1])
    (together,) = session.run(None, {"sample": sample, "time": time, "label": label})
    for row in range(5):
        one = slice(row, row + 1)
        (alone,) = session.run(None, {"sample": sample[one], "time": time[one], "label": label[one]})
        np.testing.assert_allclose(alone, together[one], atol=1e-5)
    (other,) = session.run(None, {"sample": sample, "time": time, "label": (label + 1) % 3})
    assert np.abs(other - together).max() > 0  # the class has an effect
    assert json.loads((trained / "model.json").read_text())["classes"] == ["a", "b", "c"]


def test_a_checkpoint_with_other_settings_or_damage_is_rejected(data, trained, tmp_path):
    with pytest.raises(UserError, match="use the same settings, or delete it"):
        train("light", data, trained, replace(SETTINGS, seed=2), no_progress)
    (tmp_path / CHECKPOINT).write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        train("light", data, tmp_path, SETTINGS, no_progress)


def test_the_classifier_learns_a_simple_rule():
    draw = np.random.default_rng(3)
    labels = np.arange(64) % 2
    images = (draw.integers(0, 60, (64, 28, 28)) + 150 * labels[:, None, None]).astype(np.uint8)
    from edgebrush.diffusion.training.networks import Classifier
    from edgebrush.diffusion.training.train import classifier_loss

    torch.manual_seed(0)
    network, generator = Classifier(2), torch.Generator().manual_seed(0)
    shown = torch.from_numpy(ImageSet(images, labels, ("dark", "light")).scaled()), torch.from_numpy(labels)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    before = classifier_loss(*shown, network, 64, generator).item()
    for _ in range(20):
        optimiser.zero_grad()
        loss = classifier_loss(*shown, network, 64, generator)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2 * before
