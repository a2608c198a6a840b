"""The content of ``results.json``: every policy's figures and differences, versions, machine, timings."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edgebrush.evaluation.statistics import Bootstrap, Digest, summary
from edgebrush.scenario.capacity import offered_load
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.episode_seeds import HELD_OUT_SEEDS

PACKAGES = ("edgebrush", "numpy", "numba", "jax", "equinox", "optax")


class Stopwatch:
    """Seconds that each phase took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = round(time.perf_counter() - start, 2)


def results_of(
    scenario: Scenario, played: dict[str, list[Digest]], episodes: int, command: str, timings_s: dict
) -> dict:
    """What ``results.json`` holds, from each policy's digests by training seed."""
    first = next(iter(played.values()))[0]
    return {
        "scenario": scenario.name,
        "command": command,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "episodes": episodes,
        "horizon_s": scenario.horizon_s,
        "offered_load": offered_load(scenario),
        "first_held_out_seed": HELD_OUT_SEEDS,
        "tasks_per_policy": int(first.total("tasks").sum()),
        "policies": figures_of(played, {name: pool(digests) for name, digests in played.items()}),
        "versions": {name: version(name) for name in PACKAGES},
        "machine": machine(),
        "timings_s": timings_s,
    }


def figures_of(played: dict[str, list[Digest]], pooled: dict[str, Digest]) -> dict[str, dict]:
    """Each policy's figures, its differences to every other, and the spread of its training seeds."""
    bootstrap = Bootstrap(pooled[next(iter(pooled))].episodes)
    sums = {name: kept.by_request.sum(1) for name, kept in pooled.items()}
    policies = {name: summary(kept, bootstrap) for name, kept in pooled.items()}
    for name, figures in policies.items():
        figures["less_than"] = {
            rival: {
                "cost": bootstrap.difference(sums[name], sums[rival])._asdict(),
                "relative": bootstrap.difference(sums[name], sums[rival], relative=True)._asdict(),
            }
            for rival in policies
            if rival != name
        }
        if len(played[name]) > 1:
            costs = [float(kept.total("cost").sum() / kept.total("tasks").sum()) for kept in played[name]]
            figures["training_seeds"] = {"cost": costs, "deviation": float(np.std(costs, ddof=1))}
    return policies


def pool(digests: Sequence[Digest]) -> Digest:
    """Training seeds added up."""
    first, *rest = digests
    for other in rest:
        first = first + other
    return first


def machine() -> dict[str, str | int]:
    """On what the run was made."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return {
        "processor": processor,
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
