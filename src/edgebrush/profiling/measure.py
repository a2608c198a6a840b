"""Measure the seconds and joules of a GDM's parts: encoding, rounds by batch size, decoding.

Every finished part of a measurement is kept in a working folder, under a name that depends on all its settings. An
interrupted measurement resumes; a changed one starts again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.diffusion.backend import Backend, Prompt
from edgebrush.diffusion.samplers import Sampler, Trajectory
from edgebrush.errors import UserError
from edgebrush.files import check_writable, write_text
from edgebrush.progress import ProgressCallback

from .meters import Meter

BATCHES = (1, 2, 3, 4, 6, 8, 12, 16)
STEPS = (1, 2, 4, 6, 8, 10, 15, 20, 30, 50)
SAMPLES = 2000
WARM_UP = 3  # untimed runs before a timing
MIN_REPEATS, MIN_TIMING_S = 10, 1.0  # a timing lasts at least this many runs and seconds
IQR_OF_NORMAL = 1.349  # interquartile range of a normal distribution, in standard deviations
MEDIAN_ERROR = 1.2533  # standard error of a median over that of a mean, sqrt(pi / 2)


@dataclass(frozen=True)
class MeasurementPlan:
    """What to measure. Raises ``UserError`` for a plan that cannot give a profile."""

    prompts: tuple[Prompt, ...]  # used in turn
    steps: tuple[int, ...] = STEPS
    samples: int = SAMPLES  # images per step count
    batches: tuple[int, ...] = BATCHES

    def __post_init__(self) -> None:
        if len(set(self.steps)) < 3 or min(self.steps) < 1:
            raise UserError(f"steps = {self.steps}: a curve needs at least 3 step counts, each at least 1")
        if len(set(self.batches)) < 3 or min(self.batches) < 1:
            raise UserError(f"batches = {self.batches}: a line needs at least 3 batch sizes, each at least 1")
        if self.samples < 1:
            raise UserError(f"samples = {self.samples}: must be at least 1")


@dataclass(frozen=True)
class Timing:
    """Median seconds of an action that ran ``n`` times, their standard error, and its joules."""

    seconds: float
    standard_error: float
    joules: float
    n: int


@dataclass(frozen=True)
class Costs:
    """Timings of the fixed parts, and of rounds by batch size."""

    encode: Timing
    decode: Timing
    rounds: dict[int, Timing]
    resolution_px: int


class WorkFolder:
    """Keeps finished parts as JSON files, named by a hash of their settings."""

    def __init__(self, folder: Path, identity: dict[str, Any]):
        """``identity`` is what all parts depend on: model, machine, device, threads."""
        self.folder, self.identity = folder, identity
        check_writable(folder)

    def path(self, name: str, settings: dict[str, Any]) -> Path:
        """Return the path of a part with these settings."""
        content = json.dumps([self.identity, settings], sort_keys=True, default=str)
        return self.folder / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"

    def load_or_compute(self, path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the part at a path; compute and keep it if the file is missing or incomplete."""
        try:
            part: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            content = json.dumps(compute())
            write_text(path, content)
            part = json.loads(content)  # the same types as when it is read from the file
        return part

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def fingerprint(path: Path) -> str:
    """Return a hash of the contents and names of a file or a folder."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode())
            with open(file, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def measure_costs(
    backend: Backend,
    sampler: Sampler,
    plan: MeasurementPlan,
    meter: Meter,
    work: WorkFolder,
    progress: ProgressCallback,
) -> Costs:
    """Time encoding, rounds of every batch size, and decoding, or read the kept timings."""
    settings = {"prompts": plan.prompts[0], "batches": plan.batches, "meter": meter.source + meter.assumption}
    settings |= {"sampler": type(sampler).__name__}
    kept = work.load_or_compute(
        work.path("costs", settings), lambda: asdict(time_parts(backend, sampler, plan, meter, progress))
    )
    rounds = {int(batch): Timing(**timing) for batch, timing in kept["rounds"].items()}
    return Costs(Timing(**kept["encode"]), Timing(**kept["decode"]), rounds, kept["resolution_px"])


def time_parts(
    backend: Backend, sampler: Sampler, plan: MeasurementPlan, meter: Meter, progress: ProgressCallback
) -> Costs:
    """Time encoding, rounds of every batch size, and decoding."""
    prompt, noise = plan.prompts[0], backend.noise(0)
    progress("timing", 0.0, "encode and decode")
    encode = time_action(lambda: backend.encode(prompt), backend, meter)
    decode = time_action(lambda: backend.decode([noise]), backend, meter)
    rounds = {}
    for number, batch in enumerate(plan.batches):
        progress("timing", (number + 1) / (len(plan.batches) + 1), f"batch {batch}")
        conditions = [backend.encode(prompt)] * batch
        rounds[batch] = time_action(partial(run_round, backend, sampler, noise, conditions), backend, meter)
    progress("timing", 1.0, "")
    return Costs(encode, decode, rounds, backend.decode([noise])[0].shape[0])


def run_round(backend: Backend, sampler: Sampler, noise: Any, conditions: Sequence[Any]) -> None:
    """Run the first denoising step of a batch with one image per condition."""
    advance_batch(backend, sampler, [sampler.start(noise, 2) for _ in conditions], conditions)


def advance_batch(
    backend: Backend, sampler: Sampler, trajectories: Sequence[Trajectory], conditions: Sequence[Any]
) -> None:
    """Advance all trajectories by one step, with one evaluation of the network."""
    predictions = backend.predict(
        [trajectory.sample for trajectory in trajectories],
        [trajectory.time for trajectory in trajectories],
        conditions,
    )
    for trajectory, prediction in zip(trajectories, predictions, strict=True):
        sampler.advance(trajectory, prediction)


def time_action(action: Callable[[], Any], backend: Backend, meter: Meter) -> Timing:
    """Return the median seconds of an action of a backend, and its joules.

    The joules are the mean power over all repeats times the median: energy counters are too coarse for one run.
    """
    for _ in range(WARM_UP):
        action()
        backend.synchronize()
    seconds: list[float] = []
    started_at, joules = time.perf_counter(), meter.joules()
    while len(seconds) < MIN_REPEATS or time.perf_counter() - started_at < MIN_TIMING_S:
        start = time.perf_counter()
        action()
        backend.synchronize()
        seconds.append(time.perf_counter() - start)
    watts = (meter.joules() - joules) / (time.perf_counter() - started_at)
    median, n = float(np.median(seconds)), len(seconds)
    deviation = float(np.subtract(*np.percentile(seconds, [75, 25]))) / IQR_OF_NORMAL
    return Timing(median, MEDIAN_ERROR * deviation / n**0.5, watts * median, n)
