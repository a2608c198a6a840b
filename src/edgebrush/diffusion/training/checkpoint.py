"""Save and resume a training: settings, network, averaged weights and optimiser state in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from edgebrush.errors import UserError
from edgebrush.files import write_bytes

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained. A resumed training may change ``images``; all else must stay the same."""

    images: int  # shown in total
    batch: int = 64
    step_size: float = 2e-3  # learning rate of AdamW
    warm_up: int = 500  # updates in which the learning rate rises from 0 to step_size
    cool_down: float = 0.3  # last share of the training, in which the learning rate falls to 0
    ema: float = 0.999  # decay of the averaged weights; the average is exported
    seed: int = 1
    bf16: bool = False  # faster if the CPU has bf16 instructions, four times slower if not
    pairs: int = 0  # of noise and image from a teacher, instead of real images (reflow.py)

    def updates(self) -> int:
        """Return the number of updates."""
        return self.images // self.batch

    def learning_rate(self, update: int) -> float:
        """Return the learning rate of an update: warm-up, constant, linear cool-down."""
        left = (self.updates() - update) / (self.cool_down * self.updates())
        return self.step_size * min(1.0, (update + 1) / self.warm_up, left)


def save_checkpoint(
    folder: Path,
    settings: TrainingSettings,
    update: int,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the checkpoint after ``update`` updates."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in moments.items()}
    metadata = {"settings": json.dumps(asdict(settings)), "update": str(update)}
    write_bytes(folder / CHECKPOINT, safetensors.torch.save(tensors, metadata))


def load_checkpoint(
    folder: Path, settings: TrainingSettings, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Load the checkpoint in a folder; returns the number of updates it has, 0 if there is none.

    Raises ``UserError`` if it cannot be read or was trained with other settings.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    try:
        metadata = read_metadata(path)
        saved = TrainingSettings(**json.loads(metadata["settings"]))
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{path}: not a readable checkpoint ({error}); delete it to start again") from None
    if replace(saved, images=settings.images) != settings:
        raise UserError(f"{path}: was trained with {saved}; use the same settings, or delete it to start again")
    network.load_state_dict(select(tensors, "network."))
    average.load_state_dict(select(tensors, "average."))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in select(tensors, "optimiser.").items():
        number, moment = name.split(".")
        moments.setdefault(int(number), {})[moment] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["update"])


def load_average(folder: Path, network: nn.Module) -> None:
    """Load only the averaged weights of a checkpoint. Raises ``UserError`` if they cannot be read."""
    path = folder / CHECKPOINT
    try:
        network.load_state_dict(select(safetensors.torch.load_file(path), "average."))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: not a readable checkpoint ({error}); train the model first") from None


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def select(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
