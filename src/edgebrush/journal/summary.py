"""Tasks of a journal in a few numbers: how many ended where, and how long they took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .records import ERROR, IMAGE, OPEN

QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Group:
    """Tasks that ended alike. Delays in seconds (``QUANTILES``) and joules per task are None where none has ended."""

    name: str  # a place, "error: KIND", "open" or "all"
    tasks: int
    share: float  # of all tasks
    steps: float | None  # mean of the images
    delays_s: tuple[float, ...] | None
    ue_j: float | None
    bs_j: float | None


def summarize(tasks: Sequence[dict[str, Any]]) -> list[Group]:
    """Groups of tasks as ``read_tasks`` returns them: by place and by kind of error, then the open ones, then all."""
    names = sorted({_name(task) for task in tasks}, key=lambda name: (name == OPEN, name.startswith(ERROR), name))
    groups = [_group(name, [task for task in tasks if _name(task) == name], len(tasks)) for name in names]
    return [*groups, _group("all", tasks, len(tasks))]


def _name(task: dict[str, Any]) -> str:
    if task["state"] == ERROR:
        return f"{ERROR}: {task['kind'] or 'failed'}"
    return str(task["place"]) if task["state"] == IMAGE else OPEN


def _group(name: str, tasks: Sequence[dict[str, Any]], total: int) -> Group:
    ended = [task for task in tasks if task["state"] != OPEN]
    delays = tuple(np.quantile([task["delay_s"] for task in ended], QUANTILES)) if ended else None
    return Group(
        name,
        len(tasks),
        len(tasks) / max(total, 1),
        _mean(task["steps"] for task in ended if task["state"] == IMAGE),
        delays,
        _mean(task["energy_ue_j"] for task in ended),
        _mean(task["energy_bs_j"] for task in ended),
    )


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return float(np.mean(numbers)) if numbers else None
