"""The content of ``results.json``: every policy's metrics and differences, versions, machine, timings."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from edgebrush.evaluation.statistics import Bootstrap, Digest, summary
from edgebrush.machine import processor_name
from edgebrush.scenario.capacity import offered_load
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.episode_seeds import HELD_OUT_SEEDS

PACKAGES = ("edgebrush", "numpy", "numba", "jax", "equinox", "optax")


class Stopwatch:
    """Measures the seconds of each phase: ``with stopwatch("training"): ...``."""

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
    """The content of ``results.json``, from the digests of each policy's training seeds."""
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
        "policies": policy_metrics(played, {name: pool(digests) for name, digests in played.items()}),
        "versions": {name: version(name) for name in PACKAGES},
        "machine": machine(),
        "timings_s": timings_s,
    }


def policy_metrics(played: dict[str, list[Digest]], pooled: dict[str, Digest]) -> dict[str, dict]:
    """Each policy's metrics, its differences to every other policy, and the costs of its training seeds.

    ``pooled`` is ``played`` with each policy's training seeds pooled.
    """
    bootstrap = Bootstrap(pooled[next(iter(pooled))].episodes)
    sums = {name: digest.by_request.sum(1) for name, digest in pooled.items()}
    policies = {name: summary(digest, bootstrap) for name, digest in pooled.items()}
    for name, metrics in policies.items():
        metrics["less_than"] = {
            rival: {
                "cost": bootstrap.difference(sums[name], sums[rival])._asdict(),
                "relative": bootstrap.difference(sums[name], sums[rival], relative=True)._asdict(),
            }
            for rival in policies
            if rival != name
        }
        if len(played[name]) > 1:
            costs = [float(digest.total("cost").sum() / digest.total("tasks").sum()) for digest in played[name]]
            metrics["training_seeds"] = {"cost": costs, "deviation": float(np.std(costs, ddof=1))}
    return policies


def pool(digests: Sequence[Digest]) -> Digest:
    """The digests of several training seeds as one: every mean is then the mean over seeds."""
    first, *rest = digests
    for other in rest:
        first = first + other
    return first


def machine() -> dict[str, str | int]:
    """Processor, cores, operating system and Python version of this machine."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
