"""Resident memory and open descriptors of processes over a long run, and whether they stay flat. Linux only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import theilslopes

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
WARM_UP = 0.3  # share of a process's samples, from its first one, that do not count: caches and pools fill up
SLOPE_TASKS = 20_000  # after the warm-up: in fewer tasks a slope is not told from the largest burst's high-water mark
MEMORY_SLOPE_BYTES = 300.0  # per task: 30 MB in 100,000 tasks
DESCRIPTOR_SLOPE = 1e-3  # per task: 100 in 100,000 tasks
MEMORY_GROWTH_BYTES = 60e6  # at most, since a process's first sample
DESCRIPTOR_GROWTH = 200


@dataclass(frozen=True)
class VitalSigns:
    """Memory and descriptors of one process when the run had ended ``tasks`` tasks, ``at_s`` after its start."""

    process: str
    pid: int
    at_s: float
    tasks: int
    memory_bytes: int
    descriptors: int


def measure(process: str, pid: int, at_s: float, tasks: int) -> VitalSigns | None:
    """The signs of a process now; None if it has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        resident = int((folder / "statm").read_text().split()[1])
        descriptors = len(os.listdir(folder / "fd"))
    except (OSError, IndexError):
        return None
    return VitalSigns(process, pid, at_s, tasks, PAGE_BYTES * resident, descriptors)


def growth_problems(signs: Sequence[VitalSigns]) -> list[str]:
    """Sentences about processes whose memory or descriptors grow without bound, each with its numbers."""
    series: dict[tuple[str, int], list[VitalSigns]] = {}
    for each in signs:
        series.setdefault((each.process, each.pid), []).append(each)
    return [problem for (process, _), samples in series.items() for problem in _problems(process, samples)]


def _problems(process: str, samples: Sequence[VitalSigns]) -> list[str]:
    first, last = samples[0], samples[-1]
    found = []
    if (grown := last.memory_bytes - first.memory_bytes) > MEMORY_GROWTH_BYTES:
        found.append(f"{process}: memory grew by {grown / 1e6:.0f} MB (limit {MEMORY_GROWTH_BYTES / 1e6:.0f})")
    if (opened := last.descriptors - first.descriptors) > DESCRIPTOR_GROWTH:
        found.append(f"{process}: {opened} more descriptors than at its start (limit {DESCRIPTOR_GROWTH})")
    memory, descriptors = slopes(samples)
    if memory > MEMORY_SLOPE_BYTES:
        found.append(f"{process}: memory grows by {memory:.0f} bytes per task (limit {MEMORY_SLOPE_BYTES:g})")
    if descriptors > DESCRIPTOR_SLOPE:
        found.append(f"{process}: {1e5 * descriptors:.0f} descriptors leak in 100,000 tasks (limit 100)")
    return found


def slopes(samples: Sequence[VitalSigns]) -> tuple[float, float]:
    """Bytes and descriptors per task of one process after its warm-up; 0 where it ran too short to tell.

    The lower ends of 95% intervals of Theil and Sen's slope (the median of the slopes between all pairs of samples).
    """
    steady = samples[int(WARM_UP * len(samples)) :]
    if len(steady) < 3 or steady[-1].tasks - steady[0].tasks < SLOPE_TASKS:
        return 0.0, 0.0
    tasks = [each.tasks for each in steady]
    memory = theilslopes([each.memory_bytes for each in steady], tasks).low_slope
    descriptors = theilslopes([each.descriptors for each in steady], tasks).low_slope
    return float(memory), float(descriptors)
