"""Straighten a trained flow (reflow, Liu et al. 2022): train it on pairs of noise and the image it makes from it.

With real images and independent noise, many training lines cross, the learnt velocity is their mean, and a single Euler
step ends at the mean image of the class. The lines of a model's own pairs hardly cross, so few steps follow them well.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgebrush.diffusion.onnx import CARD, read_card
from edgebrush.diffusion.samplers import Multistep
from edgebrush.errors import UserError
from edgebrush.files import write_bytes
from edgebrush.progress import ProgressCallback

from .checkpoint import TrainingSettings, load_average
from .export import SHIFT, export
from .networks import Velocity
from .train import build_network, fit_network, velocity_error

STEPS = 16  # of the second-order sampler that generates the pairs: as good as 30 Euler steps (docs/gdm.md)
CHUNK = 500  # pairs per file
BATCH = 100  # pairs generated in one batch
U_SHAPE = 4.0  # times have the U-shaped density exp(U_SHAPE t) + exp(-U_SHAPE t) (Lee et al. 2024)


class Pairs(NamedTuple):
    """Noise and the images a flow makes from it, (n, 1, 28, 28) each, and the labels (n,)."""

    noise: Tensor
    images: Tensor
    labels: Tensor


def reflow(teacher: Path, folder: Path, settings: TrainingSettings, progress: ProgressCallback) -> None:
    """Straighten the model in the folder ``teacher`` into ``folder``, on ``settings.pairs`` pairs that it generates.

    Resumes from the pairs and the checkpoint in ``folder``. Raises ``UserError`` if the teacher's folder holds no
    checkpoint of a flow, or ``folder`` a checkpoint with other settings.
    """
    card = read_card(teacher / CARD)
    network = load_teacher(teacher, card["name"], len(card["classes"]))
    pairs = make_pairs(network, len(card["classes"]), folder, settings, progress)
    average = fit_network(network, partial(pair_loss, pairs), folder, settings, partial(progress, "straightening"))
    export(card["name"], card["classes"], folder, settings, average)


def load_teacher(folder: Path, model: str, classes: int) -> nn.Module:
    """Load the averaged weights of a training's checkpoint. Raises ``UserError`` if it is not that of a flow."""
    network = build_network(model, classes)
    if not isinstance(network, Velocity):
        raise UserError(f"{folder}: holds a {model}; only a flow (light, heavy) can be straightened")
    load_average(folder, network)
    return network


def make_pairs(
    network: nn.Module, classes: int, folder: Path, settings: TrainingSettings, progress: ProgressCallback
) -> Pairs:
    """Generate ``settings.pairs`` pairs in chunks, each a file in ``folder``; existing chunks are read instead."""
    chunks_folder = folder / "pairs"
    chunks_folder.mkdir(parents=True, exist_ok=True)
    chunks = []
    for first in range(0, settings.pairs, CHUNK):
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + first)
        noise = torch.randn((CHUNK, 1, 28, 28), generator=generator)
        labels = torch.arange(CHUNK) % classes
        path = chunks_folder / f"{first:07d}.safetensors"
        if not path.exists():
            images = sample_flow(network, noise, labels, settings.bf16)
            write_bytes(path, save({"images": images.half()}))
        chunks.append(Pairs(noise, load_file(path)["images"].float(), labels))
        progress("generating pairs", min(1.0, (first + CHUNK) / settings.pairs), f"{first + CHUNK} pairs")
    return Pairs(*(torch.cat(part) for part in zip(*chunks, strict=True)))


@torch.no_grad()
def sample_flow(network: nn.Module, noise: Tensor, labels: Tensor, bf16: bool) -> Tensor:
    """Return the images that a flow makes from noise (n, 1, 28, 28)."""
    sampler, images = Multistep(SHIFT), []
    network.eval()
    for batch_noise, batch_labels in zip(noise.split(BATCH), labels.split(BATCH), strict=True):
        trajectory = sampler.start(batch_noise, STEPS)
        while not trajectory.finished:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                times = torch.full((len(batch_noise),), trajectory.time)
                velocity = network(trajectory.sample, times, batch_labels)
            sampler.advance(trajectory, velocity.float())
        images.append(trajectory.sample)
    return torch.cat(images)


def pair_loss(pairs: Pairs, network: nn.Module, batch: int, generator: torch.Generator) -> Tensor:
    """Return the squared error of the velocity on the lines between the pairs, at U-shaped times."""
    rows = torch.randint(len(pairs.labels), (batch,), generator=generator)
    u = torch.rand(batch, generator=generator)
    near_noise = torch.log1p(u * torch.expm1(torch.tensor(U_SHAPE))) / U_SHAPE  # density ~ exp(U_SHAPE t) on [0, 1]
    t = torch.where(torch.rand(batch, generator=generator) < 0.5, near_noise, 1.0 - near_noise)
    return velocity_error(network, pairs.noise[rows], pairs.images[rows], pairs.labels[rows], t)
