"""Straightening a flow: pairs equal the sampler's images, it resumes, times are U-shaped, lines are learnt."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [diffusers]")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.diffusers

from edgebrush.diffusion.backend import Prompt  # noqa: E402
from edgebrush.diffusion.onnx import load_model  # noqa: E402
from edgebrush.diffusion.samplers import Multistep  # noqa: E402
from edgebrush.diffusion.training import reflow  # noqa: E402
from edgebrush.diffusion.training.checkpoint import TrainingSettings  # noqa: E402
from edgebrush.diffusion.training.data import ImageSet  # noqa: E402
from edgebrush.diffusion.training.train import train  # noqa: E402
from edgebrush.errors import UserError  # noqa: E402
from edgebrush.progress import no_progress  # noqa: E402

SETTINGS = TrainingSettings(images=16, batch=4, warm_up=2, cool_down=1e-9, pairs=6)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    draw = np.random.default_rng(1)
    data = ImageSet(draw.integers(0, 256, (16, 28, 28), dtype=np.uint8), np.arange(16) % 3, ("a", "b", "c"))
    folder = tmp_path_factory.mktemp("teacher")
    train("light", data, folder, TrainingSettings(images=24, batch=4, warm_up=2, cool_down=1e-9), no_progress)
    return folder


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(reflow, "CHUNK", 3)
    monkeypatch.setattr(reflow, "BATCH", 2)


def test_pairs_equal_the_exported_models_images_of_the_same_noise(teacher, tmp_path):
    pairs = reflow.make_pairs(reflow.load_teacher(teacher, "light", 3), 3, tmp_path, SETTINGS, no_progress)
    backend, sampler = load_model(teacher), Multistep(reflow.SHIFT)
    assert pairs.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert not torch.equal(pairs.noise[0], pairs.noise[3])
    for row in range(6):
        trajectory = sampler.start(pairs.noise[row].numpy(), reflow.STEPS)
        label = backend.encode(Prompt("abc"[row % 3]))
        while not trajectory.finished:
            sampler.advance(trajectory, backend.predict([trajectory.sample], [trajectory.time], [label])[0])
        np.testing.assert_allclose(
            trajectory.sample, pairs.images[row].numpy(), atol=2e-2
        )  # exported in half precision


def test_an_interrupted_run_resumes_from_its_pairs_with_the_same_result(teacher, tmp_path):
    reflow.reflow(teacher, tmp_path / "whole", SETTINGS, no_progress)
    network = reflow.load_teacher(teacher, "light", 3)
    reflow.make_pairs(network, 3, tmp_path / "parts", replace(SETTINGS, pairs=3), no_progress)
    kept = (tmp_path / "parts" / "pairs" / "0000000.safetensors").stat().st_mtime_ns
    reflow.reflow(teacher, tmp_path / "parts", SETTINGS, no_progress)
    assert (tmp_path / "parts" / "pairs" / "0000000.safetensors").stat().st_mtime_ns == kept
    whole, parts = (load_model(tmp_path / name) for name in ("whole", "parts"))
    sample = whole.noise(0)[None]
    np.testing.assert_array_equal(whole.predict(sample, [0.5], [1]), parts.predict(sample, [0.5], [1]))


def test_times_are_u_shaped_and_a_network_learns_the_line_of_a_pair(teacher):
    times = []

    class Recorder(torch.nn.Module):
        def forward(self, sample, time, label):
            times.append(time)
            return torch.zeros_like(sample)

    pairs = reflow.Pairs(torch.randn(2, 1, 28, 28), torch.zeros(2, 1, 28, 28), torch.tensor([0, 1]))
    reflow.pair_loss(pairs, Recorder(), 4000, torch.Generator().manual_seed(0))
    density, _ = np.histogram(torch.cat(times).numpy(), bins=4, range=(0.0, 1.0), density=True)
    a = reflow.U_SHAPE
    edges = np.linspace(0.0, 1.0, 5)
    mass = np.diff(np.exp(a * edges) - np.exp(a * (1.0 - edges)))  # of exp(at) + exp(a(1 - t))
    np.testing.assert_allclose(density / density.sum(), mass / mass.sum(), atol=0.03)

    network = reflow.load_teacher(teacher, "light", 3)
    loss = partial(reflow.pair_loss, pairs, network, 16)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    before = loss(torch.Generator().manual_seed(0)).item()
    for step in range(30):
        optimiser.zero_grad()
        loss(torch.Generator().manual_seed(step)).backward()
        optimiser.step()
    assert loss(torch.Generator().manual_seed(0)).item() < 0.7 * before


def test_what_cannot_be_straightened_is_rejected(teacher, tmp_path):
    with pytest.raises(UserError, match="not a readable model card"):
        reflow.reflow(tmp_path, tmp_path / "out", SETTINGS, no_progress)
    (tmp_path / "model.json").write_text((teacher / "model.json").read_text().replace('"light"', '"classifier"'))
    with pytest.raises(UserError, match="only a flow"):
        reflow.reflow(tmp_path, tmp_path / "out", SETTINGS, no_progress)
    (tmp_path / "model.json").write_text((teacher / "model.json").read_text())
    with pytest.raises(UserError, match="train the model first"):
        reflow.reflow(tmp_path, tmp_path / "out", SETTINGS, no_progress)
