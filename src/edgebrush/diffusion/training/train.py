"""Train a GDM by rectified flow (Liu et al. 2022; SD3's training, Esser et al. 2024), or the classifier; export ONNX.

``x_t = (1 - t) x + t noise``; the network learns the velocity ``noise - x``; times are logit-normal.
Every step's images, noise and times follow from (seed, step) alone, so a resumed training is the same training.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from edgebrush.diffusion.onnx import CARD, GRAPH
from edgebrush.diffusion.training.data import ImageSet
from edgebrush.errors import UserError
from edgebrush.files import write_bytes, write_text

from .networks import WIDTHS, Classifier, Velocity

CHECKPOINT, LOG = "checkpoint.safetensors", "training.csv"
OPSET = 18
ROWS_PER_LOG = 100  # updates
SHIFT = 2.0  # of the sampling times towards the noise (SD3: 3); with 1, light got worse after 15 Euler steps
SMALL = 64  # numbers; fewer stay in single precision


@dataclass(frozen=True)
class Settings:
    """How a model is trained; ``images`` may grow or shrink when a training is resumed, the rest may not."""

    images: int  # seen in all
    batch: int = 64
    step_size: float = 2e-3  # AdamW
    warm_up: int = 500  # updates from 0 to step_size
    cool_down: float = 0.3  # the last share of the training, in which the step size falls to 0
    ema: float = 0.999  # weights averaged over the last 1/(1 - ema) updates; what ships is the average
    seed: int = 1
    bf16: bool = False  # faster where the processor has bf16 instructions, four times slower where not
    pairs: int = 0  # of noise and image by a teacher, to be trained on instead of real images (reflow.py)

    def updates(self) -> int:
        return self.images // self.batch

    def rate(self, update: int) -> float:
        """The step size of an update: warm-up, constant, linear cool-down."""
        left = (self.updates() - update) / (self.cool_down * self.updates())
        return self.step_size * min(1.0, (update + 1) / self.warm_up, left)


Progress = Callable[[float, str], None]  # (share done, note)
Loss = Callable[[nn.Module, int, torch.Generator], Tensor]  # of a network on so many drawn examples


def train(model: str, data: ImageSet, folder: Path, settings: Settings, progress: Progress) -> None:
    """Train ``light``, ``heavy`` or ``classifier`` into a folder, going on from the checkpoint that lies there.

    Raises ``UserError`` where the checkpoint is of other settings or cannot be read.
    """
    torch.manual_seed(settings.seed)
    network = new_network(model, len(data.classes))
    images, labels = torch.from_numpy(data.scaled()), torch.from_numpy(data.labels)
    loss = partial(classifier_loss if model == "classifier" else flow_loss, images, labels)
    descend(network, loss, folder, settings, progress, partial(export, model, data.classes, folder, settings))


def new_network(model: str, classes: int) -> nn.Module:
    return Classifier(classes) if model == "classifier" else Velocity(WIDTHS[model], classes)


def descend(
    network: nn.Module,
    loss_of: Loss,
    folder: Path,
    settings: Settings,
    progress: Progress,
    finish: Callable[[nn.Module], None],
) -> None:
    """Train a network on a loss, or go on from the checkpoint in ``folder``; ``finish`` gets the averaged weights."""
    average = deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.step_size, betas=(0.9, 0.99))
    folder.mkdir(parents=True, exist_ok=True)
    update = restore(folder, settings, network, average, optimiser)
    losses, saved, began = [], time.monotonic(), time.monotonic()
    first = update
    network.train()
    while update < settings.updates():
        draw = torch.Generator().manual_seed(settings.seed * 1_000_003 + update)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            loss = loss_of(network, settings.batch, draw)
        optimiser.param_groups[0]["lr"] = settings.rate(update)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        update += 1
        follow(average, network, min(settings.ema, update / (update + 10)))
        losses.append(loss.item())
        if update % ROWS_PER_LOG == 0 or update == settings.updates():
            speed = (update - first) * settings.batch / (time.monotonic() - began)
            log(folder, update * settings.batch, float(np.mean(losses)), settings.rate(update - 1))
            progress(update / settings.updates(), f"loss {np.mean(losses):.4f}, {speed:.0f} images/s")
            losses = []
            if time.monotonic() - saved > 30 or update == settings.updates():
                save(folder, settings, update, network, average, optimiser)
                saved = time.monotonic()
    finish(average.eval())


def flow_loss(images: Tensor, labels: Tensor, network: nn.Module, batch: int, draw: torch.Generator) -> Tensor:
    """Squared error of the velocity at logit-normal times."""
    rows = torch.randint(len(images), (batch,), generator=draw)
    noise = torch.randn((batch, *images.shape[1:]), generator=draw)
    t = torch.sigmoid(torch.randn(batch, generator=draw))
    return velocity_error(network, noise, images[rows], labels[rows], t)


def velocity_error(network: nn.Module, noise: Tensor, images: Tensor, labels: Tensor, t: Tensor) -> Tensor:
    """Squared error of the velocity on the straight line from images (t = 0) to noise (t = 1)."""
    at = t[:, None, None, None]
    velocity = network((1 - at) * images + at * noise, t, labels)
    return functional.mse_loss(velocity.float(), noise - images)


def classifier_loss(images: Tensor, labels: Tensor, network: nn.Module, batch: int, draw: torch.Generator) -> Tensor:
    """Cross-entropy of images shifted by up to two pixels."""
    rows = torch.randint(len(images), (batch,), generator=draw)
    down, right = torch.randint(-2, 3, (2,), generator=draw).tolist()
    _, logits = network(torch.roll(images[rows], (down, right), (2, 3)))
    return functional.cross_entropy(logits.float(), labels[rows])


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move the averaged weights towards the network's; counters and running statistics are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - keep)
    for mean, value in zip(average.buffers(), network.buffers(), strict=True):
        mean.copy_(value)


def log(folder: Path, images: int, loss: float, step_size: float) -> None:
    path = folder / LOG
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(("images", "loss", "step_size"))
        writer.writerow((images, f"{loss:.5f}", f"{step_size:.3g}"))


def tensors(network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All that a training is made of, by name."""
    named = {f"network.{name}": value for name, value in network.state_dict().items()}
    named |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for number, moments in optimiser.state_dict()["state"].items():
        named |= {f"optimiser.{number}.{name}": value for name, value in moments.items()}
    return named


def save(folder: Path, settings: Settings, update: int, *parts: Any) -> None:
    metadata = {"settings": json.dumps(asdict(settings)), "update": str(update)}
    write_bytes(folder / CHECKPOINT, safetensors.torch.save(tensors(*parts), metadata))


def restore(folder: Path, settings: Settings, network: nn.Module, average: nn.Module, optimiser: Any) -> int:
    """Load a checkpoint, if there is one, and return how many updates it holds."""
    path = folder / CHECKPOINT
    if not path.exists():
        (folder / LOG).unlink(missing_ok=True)
        return 0
    try:
        metadata = checkpoint_metadata(path)
        held = Settings(**json.loads(metadata["settings"]))
        values = safetensors.torch.load_file(path)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a checkpoint that can be read ({error}); delete it to start anew") from None
    if replace(held, images=settings.images) != settings:
        raise UserError(f"{path}: was trained with {held}; give the same settings, or delete it to start anew")
    for prefix, part in (("network.", network), ("average.", average)):
        part.load_state_dict(part_of(values, prefix))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in values.items():
        if name.startswith("optimiser."):
            _, number, moment = name.split(".")
            moments.setdefault(int(number), {})[moment] = value
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(metadata["update"])


def part_of(values: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The state of one part of a checkpoint, see ``tensors``."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def checkpoint_metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def export(model: str, classes: Sequence[str], folder: Path, settings: Settings, network: nn.Module) -> None:
    """Write the averaged network as ``model.onnx`` and what a user of it must know as ``model.json``."""
    sample, label = torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.long)
    batch = torch.export.Dim("batch")
    inputs: tuple[Tensor, ...]
    if model == "classifier":
        inputs, names, outputs = (sample,), ["sample"], ["features", "logits"]
    else:
        inputs, names, outputs = (sample, torch.zeros(2), label), ["sample", "time", "label"], ["velocity"]
    program = torch.onnx.export(
        network,
        inputs,
        input_names=names,
        output_names=outputs,
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=tuple({0: batch} for _ in inputs),
        external_data=False,
        verbose=False,
    )
    assert program is not None  # it is, unless a file name is given
    write_bytes(folder / GRAPH, halved(program.model_proto).SerializeToString())
    card = {
        "name": model,
        "prediction": None if model == "classifier" else "velocity",
        "shape": [1, 28, 28],
        "shift": SHIFT,
        "classes": list(classes),
        "parameters": sum(value.numel() for value in network.parameters()),
        "training": asdict(settings),
    }
    write_text(folder / CARD, json.dumps(card, indent=2) + "\n")


def halved(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its weights kept in half precision and cast back when it is loaded: half the bytes to ship."""
    casts = []
    for weight in graph.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and np.prod(weight.dims) >= SMALL:
            name, values = weight.name, onnx.numpy_helper.to_array(weight)
            weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return graph
