"""Straighten a trained flow (reflow, Liu et al. 2022): train it on pairs of a noise and the image it makes of it.

Where real images are paired with any noise, many straight lines cross, the learnt velocity is their mean, and one Euler
step ends at the mean image of the class. The lines of a model's own pairs hardly cross, so few steps follow them well.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgebrush.diffusion.onnx import CARD, read_card
from edgebrush.diffusion.samplers import Multistep
from edgebrush.errors import UserError
from edgebrush.files import write_bytes

from .networks import Velocity
from .train import (
    CHECKPOINT,
    SHIFT,
    Progress,
    Settings,
    descend,
    export,
    new_network,
    part_of,
    velocity_error,
)

STEPS = 16  # of the second-order sampler that makes the pairs: as good as 30 of Euler's (docs/gdm.md)
CHUNK = 500  # pairs made, and kept, together
TOGETHER = 100  # of them in one batch
EDGES = 4.0  # times are drawn with density exp(EDGES t) + exp(-EDGES t), from both ends (Lee et al. 2024)


class Pairs(NamedTuple):
    """Noise and the image that a flow makes of it, (n, 1, 28, 28) each, and the labels (n,)."""

    noise: Tensor
    images: Tensor
    labels: Tensor


def reflow(teacher: Path, folder: Path, settings: Settings, progress: Progress) -> None:
    """Train the model in the folder ``teacher`` into another one, on ``settings.pairs`` pairs that it makes first.

    Goes on from the pairs and the checkpoint that lie in ``folder``. Raises ``UserError`` where the teacher's folder
    holds no checkpoint of a GDM, or ``folder`` another training's.
    """
    card = read_card(teacher / CARD)
    network = averaged(teacher, card["name"], len(card["classes"]))
    pairs = make_pairs(network, len(card["classes"]), folder, settings, partial(half_of, progress, 0.0))
    finish = partial(export, card["name"], card["classes"], folder, settings)
    descend(network, partial(pair_loss, pairs), folder, settings, partial(half_of, progress, 0.5), finish)


def half_of(progress: Progress, begun: float, share: float, note: str) -> None:
    progress(begun + 0.5 * share, note)


def averaged(folder: Path, model: str, classes: int) -> nn.Module:
    """The averaged weights of a training's checkpoint, as a network. Raises ``UserError`` where they cannot be read."""
    path = folder / CHECKPOINT
    network = new_network(model, classes)
    if not isinstance(network, Velocity):
        raise UserError(f"{folder}: holds a {model}; only a flow (light, heavy) can be straightened")
    try:
        network.load_state_dict(part_of(load_file(path), "average."))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: not a checkpoint that can be read ({error}); train the model first") from None
    return network


def make_pairs(network: nn.Module, classes: int, folder: Path, settings: Settings, progress: Progress) -> Pairs:
    """``settings.pairs`` pairs in chunks, each a file under ``folder``, so that an interruption loses one at most."""
    home = folder / "pairs"
    home.mkdir(parents=True, exist_ok=True)
    chunks = []
    for first in range(0, settings.pairs, CHUNK):
        draw = torch.Generator().manual_seed(settings.seed * 1_000_003 + first)
        noise = torch.randn((CHUNK, 1, 28, 28), generator=draw)
        labels = torch.arange(CHUNK) % classes
        path = home / f"{first:07d}.safetensors"
        if not path.exists():
            images = follow_flow(network, noise, labels, settings.bf16)
            write_bytes(path, save({"images": images.half()}))
        chunks.append(Pairs(noise, load_file(path)["images"].float(), labels))
        progress(min(1.0, (first + CHUNK) / settings.pairs), f"{first + CHUNK} pairs of noise and image")
    return Pairs(*(torch.cat(part) for part in zip(*chunks, strict=True)))


@torch.no_grad()
def follow_flow(network: nn.Module, noise: Tensor, labels: Tensor, bf16: bool) -> Tensor:
    """The images that a flow makes of noise (n, 1, 28, 28)."""
    sampler, images = Multistep(SHIFT), []
    network.eval()
    for some, asked in zip(noise.split(TOGETHER), labels.split(TOGETHER), strict=True):
        trajectory = sampler.start(some, STEPS)
        while not trajectory.finished:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                velocity = network(trajectory.sample, torch.full((len(some),), trajectory.time), asked)
            sampler.advance(trajectory, velocity.float())
        images.append(trajectory.sample)
    return torch.cat(images)


def pair_loss(pairs: Pairs, network: nn.Module, batch: int, draw: torch.Generator) -> Tensor:
    """Squared error of the velocity on the lines between the pairs."""
    rows = torch.randint(len(pairs.labels), (batch,), generator=draw)
    u = torch.rand(batch, generator=draw)
    near_noise = torch.log1p(u * torch.expm1(torch.tensor(EDGES))) / EDGES  # density ~ exp(EDGES t) on [0, 1]
    t = torch.where(torch.rand(batch, generator=draw) < 0.5, near_noise, 1.0 - near_noise)
    return velocity_error(network, pairs.noise[rows], pairs.images[rows], pairs.labels[rows], t)
