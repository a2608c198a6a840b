"""Train a GDM by rectified flow (Liu et al. 2022; as SD3, Esser et al. 2024), or the classifier that scores images.

``x_t = (1 - t) x + t noise``; the network learns the velocity ``noise - x``; times are logit-normal. The images, noise
and times of an update depend only on (seed, update), so a resumed training equals an uninterrupted one.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgebrush.progress import ProgressCallback

from .checkpoint import TrainingSettings, load_checkpoint, save_checkpoint
from .data import ImageSet
from .export import export
from .networks import WIDTHS, Classifier, Velocity

LOG = "training.csv"
LOG_EVERY = 100  # updates
SAVE_EVERY_S = 30.0  # at the next row of the log

Loss = Callable[[nn.Module, int, torch.Generator], Tensor]  # (network, batch size, generator) -> loss


def train(model: str, data: ImageSet, folder: Path, settings: TrainingSettings, progress: ProgressCallback) -> None:
    """Train ``light``, ``heavy`` or ``classifier`` into a folder; resumes from the checkpoint in it.

    Raises ``UserError`` if the checkpoint has other settings or cannot be read.
    """
    torch.manual_seed(settings.seed)
    network = build_network(model, len(data.classes))
    images, labels = torch.from_numpy(data.scaled()), torch.from_numpy(data.labels)
    loss = partial(classifier_loss if model == "classifier" else flow_loss, images, labels)
    average = fit_network(network, loss, folder, settings, partial(progress, f"training {model}"))
    export(model, data.classes, folder, settings, average)


def build_network(model: str, classes: int) -> nn.Module:
    """Return a newly initialised network."""
    return Classifier(classes) if model == "classifier" else Velocity(WIDTHS[model], classes)


def fit_network(
    network: nn.Module,
    compute_loss: Loss,
    folder: Path,
    settings: TrainingSettings,
    progress: Callable[[float, str], None],
) -> nn.Module:
    """Minimise a loss with AdamW, or resume from the checkpoint in ``folder``; returns the averaged network.

    ``progress`` is called with the share that is done and a note.
    """
    average = deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.step_size, betas=(0.9, 0.99))
    folder.mkdir(parents=True, exist_ok=True)
    update = load_checkpoint(folder, settings, network, average, optimizer)
    if update == 0:
        (folder / LOG).unlink(missing_ok=True)
    losses, saved_at, started_at = [], time.monotonic(), time.monotonic()
    first = update
    network.train()
    while update < settings.updates():
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + update)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            loss = compute_loss(network, settings.batch, generator)
        optimizer.param_groups[0]["lr"] = settings.learning_rate(update)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        update += 1
        update_average(average, network, min(settings.ema, update / (update + 10)))
        losses.append(loss.item())
        last = update == settings.updates()
        if update % LOG_EVERY == 0 or last:
            speed = (update - first) * settings.batch / (time.monotonic() - started_at)
            append_to_log(folder, update * settings.batch, float(np.mean(losses)), settings.learning_rate(update - 1))
            progress(update / settings.updates(), f"loss {np.mean(losses):.4f}, {speed:.0f} images/s")
            losses = []
            if time.monotonic() - saved_at > SAVE_EVERY_S or last:
                save_checkpoint(folder, settings, update, network, average, optimizer)
                saved_at = time.monotonic()
    return average.eval()


def flow_loss(images: Tensor, labels: Tensor, network: nn.Module, batch: int, generator: torch.Generator) -> Tensor:
    """Return the squared error of the velocity at logit-normal times."""
    rows = torch.randint(len(images), (batch,), generator=generator)
    noise = torch.randn((batch, *images.shape[1:]), generator=generator)
    t = torch.sigmoid(torch.randn(batch, generator=generator))
    return velocity_error(network, noise, images[rows], labels[rows], t)


def velocity_error(network: nn.Module, noise: Tensor, images: Tensor, labels: Tensor, t: Tensor) -> Tensor:
    """Return the squared error of the velocity on the line from ``images`` (t = 0) to ``noise`` (t = 1)."""
    weight = t[:, None, None, None]
    velocity = network((1 - weight) * images + weight * noise, t, labels)
    return functional.mse_loss(velocity.float(), noise - images)


def classifier_loss(
    images: Tensor, labels: Tensor, network: nn.Module, batch: int, generator: torch.Generator
) -> Tensor:
    """Return the cross-entropy on images shifted by up to two pixels."""
    rows = torch.randint(len(images), (batch,), generator=generator)
    down, right = torch.randint(-2, 3, (2,), generator=generator).tolist()
    _, logits = network(torch.roll(images[rows], (down, right), (2, 3)))
    return functional.cross_entropy(logits.float(), labels[rows])


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Update the exponential moving average of the weights; buffers, such as running statistics, are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - decay)
    for mean, value in zip(average.buffers(), network.buffers(), strict=True):
        mean.copy_(value)


def append_to_log(folder: Path, images: int, loss: float, learning_rate: float) -> None:
    """Append a row to training.csv."""
    path = folder / LOG
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(("images", "loss", "step_size"))
        writer.writerow((images, f"{loss:.5f}", f"{learning_rate:.3g}"))
