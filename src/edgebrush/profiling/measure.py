"""Measure a GDM on this machine: seconds and joules of a round against its batch, quality against steps.

Every finished part is kept in a working folder under a name that says of what it is, so an interrupted measurement goes
on where it stopped and a changed one starts anew.
"""

from __future__ import annotations

import csv
import hashlib
import json
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from edgebrush.diffusion.backend import Backend, Prompt
from edgebrush.diffusion.images import save_image
from edgebrush.diffusion.samplers import Sampler
from edgebrush.errors import UserError
from edgebrush.files import check_writable, write_csv, write_text
from edgebrush.profiles.catalogue import read_profile
from edgebrush.profiles.fit import fit_round, fit_saturating
from edgebrush.profiles.schema import Compute, Energy, Profile, Quality, QualityPoint

from .meters import Meter
from .quality import Score, Scorer

BATCHES = (1, 2, 4, 8, 16)
STEPS = (1, 2, 4, 6, 8, 10, 15, 20, 30, 50)
SAMPLES = 2000
GENERATED_TOGETHER = 16  # images of a quality measurement in one batch
SHOWN = 10  # sample images kept per step count
WARM_UP, REPEATS, TIMING_S = 3, 10, 1.0  # rounds before a timing, and rounds and seconds that it lasts at least
COLUMNS = ("quantity", "at", "value", "standard_error", "n")

Progress = Callable[[str, float, str], None]  # (phase, share done, note)


@dataclass(frozen=True)
class Plan:
    """What is measured. Raises ``UserError`` where it cannot be."""

    prompts: tuple[Prompt, ...]  # taken in turn
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
    """Median seconds of something done ``n`` times, their standard error, and its joules."""

    seconds: float
    standard_error: float
    joules: float
    n: int


@dataclass(frozen=True)
class Costs:
    """What was timed: the fixed parts, and rounds by batch size."""

    encode: Timing
    decode: Timing
    rounds: dict[int, Timing]
    resolution_px: int


@dataclass(frozen=True)
class Measured:
    """A profile and what it was fitted to: rows of ``COLUMNS``, and a strip of sample images (H, n W[, 3]) per step
    count, the same seeds and prompts in each."""

    profile: Profile
    rows: list[dict[str, Any]]
    strips: dict[int, np.ndarray] = field(default_factory=dict)

    def of(self, quantity: str) -> list[tuple[float, float, float]]:
        """(at, value, standard error) of a measured quantity, the error NaN where there is none."""
        return [
            (
                float(row["at"]),
                float(row["value"]),
                float("nan" if row["standard_error"] == "" else row["standard_error"]),
            )
            for row in self.rows
            if row["quantity"] == quantity
        ]


class Work:
    """The working folder: finished parts as JSON, named by what they are of."""

    def __init__(self, folder: Path, identity: dict[str, Any]):
        """``identity`` is all that every part depends on: model, machine, device, threads."""
        self.folder, self.identity = folder, identity
        check_writable(folder)

    def path(self, name: str, settings: dict[str, Any]) -> Path:
        content = json.dumps([self.identity, settings], sort_keys=True, default=str)
        return self.folder / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"

    def part(self, path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was kept at a path, or else what ``make`` gives, kept there."""
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):  # not there, or cut off
            made = json.dumps(make())
            write_text(path, made)
            return json.loads(made)

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def measure(
    backend: Backend,
    sampler: Sampler,
    plan: Plan,
    meter: Meter,
    work: Work,
    progress: Progress,
    *,
    role: Literal["light", "heavy"],
    name: str,
    hardware: str,
    scorer: Scorer | None = None,
    scorer_name: str = "",
    borrowed: Profile | None = None,
) -> Measured:
    """Measure all that a profile holds; its quality is the scorer's or else ``borrowed`` from another profile.

    ``name`` is the profile's, made fit for one; ``hardware`` says what ``backend`` runs on.
    """
    costs = measure_costs(backend, sampler, plan, meter, work, progress)
    scores: dict[int, Score] = {}
    strips: dict[int, np.ndarray] = {}
    if scorer is not None:
        scores, strips = measure_quality(backend, sampler, scorer, scorer_name, plan, work, progress)
        quality = quality_block(scores, f"{type(sampler).__name__} sampler, scored by {scorer_name}")
    elif borrowed is not None:
        quality = borrowed_quality(borrowed)
    else:
        raise ValueError("neither a scorer nor a profile to borrow the quality from")
    profile = Profile(
        name=profile_name(name),
        title=f"{backend.name} on {hardware}",
        role=role,
        model=backend.name,
        hardware=hardware,
        resolution_px=costs.resolution_px,
        compute=compute_block(costs, role, hardware, plan.prompts[0].guidance),
        energy=energy_block(costs, role, meter),
        quality=quality,
    )
    return Measured(profile, measured_rows(costs, scores), strips)


def borrowed_quality(profile: Profile) -> Quality:
    """Another profile's quality, marked as such."""
    quality = profile.quality
    here = f"not measured here: the points of profile {profile.name}"
    return quality.model_copy(
        update={
            "source": f"{here} ({quality.source})",
            "assumption": "; ".join(filter(None, [here, quality.assumption])),
        }
    )


def measure_costs(
    backend: Backend, sampler: Sampler, plan: Plan, meter: Meter, work: Work, progress: Progress
) -> Costs:
    """Time encoding, rounds of every batch size, and decoding."""
    settings = {"prompts": plan.prompts[0], "batches": plan.batches, "meter": meter.source + meter.assumption}
    settings |= {"sampler": type(sampler).__name__}
    kept = work.part(work.path("costs", settings), lambda: asdict(time_all(backend, sampler, plan, meter, progress)))
    rounds = {int(batch): Timing(**timing) for batch, timing in kept["rounds"].items()}
    return Costs(Timing(**kept["encode"]), Timing(**kept["decode"]), rounds, kept["resolution_px"])


def time_all(backend: Backend, sampler: Sampler, plan: Plan, meter: Meter, progress: Progress) -> Costs:
    prompt, noise = plan.prompts[0], backend.noise(0)
    progress("timing", 0.0, "encode and decode")
    encode = time_action(lambda: backend.encode(prompt), meter)
    decode = time_action(lambda: backend.decode(noise), meter)
    rounds = {}
    for number, batch in enumerate(plan.batches):
        progress("timing", (number + 1) / (len(plan.batches) + 1), f"batch {batch}")
        conditions = [backend.encode(prompt)] * batch
        rounds[batch] = time_action(partial(one_round, backend, sampler, noise, conditions), meter)
    progress("timing", 1.0, "")
    return Costs(encode, decode, rounds, backend.decode(noise).shape[0])


def one_round(backend: Backend, sampler: Sampler, noise: Any, conditions: Sequence[Any]) -> None:
    """The first step of as many requests as there are conditions."""
    step_all(backend, sampler, [sampler.start(noise, 2) for _ in conditions], conditions)


def step_all(backend: Backend, sampler: Sampler, trajectories: Sequence[Any], conditions: Sequence[Any]) -> None:
    """Move every trajectory one step, all of them in one evaluation of the network."""
    predictions = backend.predict(
        [trajectory.sample for trajectory in trajectories],
        [trajectory.time for trajectory in trajectories],
        conditions,
    )
    for trajectory, prediction in zip(trajectories, predictions, strict=True):
        sampler.advance(trajectory, prediction)


def time_action(action: Callable[[], Any], meter: Meter) -> Timing:
    """Median seconds, and joules by the mean power over all repeats: counters are too coarse for one."""
    for _ in range(WARM_UP):
        action()
        settle()
    seconds: list[float] = []
    began, joules = time.perf_counter(), meter.joules()
    while len(seconds) < REPEATS or time.perf_counter() - began < TIMING_S:
        start = time.perf_counter()
        action()
        settle()
        seconds.append(time.perf_counter() - start)
    watts = (meter.joules() - joules) / (time.perf_counter() - began)
    median, n = float(np.median(seconds)), len(seconds)
    spread = float(np.subtract(*np.percentile(seconds, [75, 25]))) / 1.349  # a normal's standard deviation
    return Timing(median, 1.2533 * spread / n**0.5, watts * median, n)


def settle() -> None:
    """Wait until a GPU that is in use has done what it was told."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def measure_quality(
    backend: Backend, sampler: Sampler, scorer: Scorer, scorer_name: str, plan: Plan, work: Work, progress: Progress
) -> tuple[dict[int, Score], dict[int, np.ndarray]]:
    """The score and the strip of sample images at every step count."""
    scores, strips = {}, {}
    settings = {"prompts": plan.prompts, "samples": plan.samples, "sampler": type(sampler).__name__}
    total, done = sum(plan.steps) * plan.samples, 0
    for steps in plan.steps:
        path = work.path(f"quality-{steps}", settings | {"steps": steps, "scorer": scorer_name})
        strip = path.with_suffix(".png")
        if not strip.exists():
            path.unlink(missing_ok=True)

        def make(steps: int = steps, strip: Path = strip, done: int = done) -> dict[str, Any]:
            def hear(images: int) -> None:
                progress("quality", (done + steps * images) / total, f"{steps} steps, image {images}")

            images, prompts = generate(backend, sampler, plan, steps, hear)
            score = scorer.score(images, prompts)
            if not 0.0 <= score.value <= 1.0:
                raise UserError(f"scorer = {scorer_name!r}: gave {score.value:g}; a quality must be between 0 and 1")
            save_image(np.concatenate(images[:SHOWN], axis=1), strip)
            return asdict(score)

        kept = work.part(path, make)
        scores[steps], strips[steps] = Score(**kept), np.asarray(Image.open(strip))
        done += steps * plan.samples
    progress("quality", 1.0, "")
    return scores, strips


def generate(
    backend: Backend, sampler: Sampler, plan: Plan, steps: int, hear: Callable[[int], None]
) -> tuple[list[np.ndarray], list[Prompt]]:
    """``plan.samples`` images of the prompts in turn, of seeds 0, 1, 2, ...; ``hear`` is told how many are done."""
    prompts = [plan.prompts[seed % len(plan.prompts)] for seed in range(plan.samples)]
    images: list[np.ndarray] = []
    for first in range(0, plan.samples, GENERATED_TOGETHER):
        conditions = [backend.encode(prompt) for prompt in prompts[first : first + GENERATED_TOGETHER]]
        trajectories = [sampler.start(backend.noise(first + row), steps) for row in range(len(conditions))]
        for _ in range(steps):
            step_all(backend, sampler, trajectories, conditions)
        images += [backend.decode(trajectory.sample) for trajectory in trajectories]
        hear(len(images))
    return images, prompts


def compute_block(costs: Costs, role: str, hardware: str, guidance: float) -> Compute:
    """A light model runs one task at a time: its step is what a batch of one takes."""
    seconds = {batch: timing.seconds for batch, timing in costs.rounds.items()}
    intercept, slope, error = round_line(seconds, role)
    repeats = min(timing.n for timing in costs.rounds.values())
    how = ", with guidance (two evaluations a step)" if guidance > 1 else ""
    return Compute(
        source=f"measured on {hardware}: median of {repeats} or more rounds at batch {listed(seconds)}{how}",
        encode_s=rounded(costs.encode.seconds),
        decode_s=rounded(costs.decode.seconds),
        round_intercept_s=intercept,
        round_slope_s=slope,
        error=error,
    )


def energy_block(costs: Costs, role: str, meter: Meter) -> Energy:
    joules = {batch: timing.joules for batch, timing in costs.rounds.items()}
    intercept, slope, error = round_line(joules, role)
    return Energy(
        source=f"{meter.source}, at batch {listed(joules)}",
        assumption=meter.assumption,
        fixed_j=rounded(costs.encode.joules + costs.decode.joules),
        round_intercept_j=intercept,
        round_slope_j=slope,
        error=error,
    )


def round_line(values: dict[int, float], role: str) -> tuple[float, float, float | None]:
    """(intercept, slope, relative error of each batch size against the line through the others).

    Raises ``UserError`` where the line does not rise, for a profile's must.
    """
    if role == "light":
        return 0.0, rounded(values[min(values)] / min(values)), None
    intercept, slope, error = map(rounded, fit_round(list(values), list(values.values())))
    if slope <= 0.0:
        raise UserError(
            f"batches = {tuple(values)}: a round takes no longer with more images in it; give larger batches, or "
            "measure on a quieter machine"
        )
    return intercept, slope, error


def quality_block(scores: dict[int, Score], how: str) -> Quality:
    points = [
        QualityPoint(steps=steps, quality=rounded(score.value), standard_error=rounded(score.standard_error))
        for steps, score in sorted(scores.items())
    ]
    ceiling, half_steps, sharpness, error = map(rounded, fit_saturating(points))
    n = min(score.n for score in scores.values())
    return Quality(
        source=f"measured: {n} images per step count, {how}",
        ceiling=ceiling,
        half_steps=half_steps,
        sharpness=sharpness,
        points=tuple(points),
        error=error,
    )


def measured_rows(costs: Costs, scores: dict[int, Score]) -> list[dict[str, Any]]:
    """All measured points, a row each."""
    rows: list[tuple] = [("encode_s", "", costs.encode.seconds, costs.encode.standard_error, costs.encode.n)]
    rows.append(("decode_s", "", costs.decode.seconds, costs.decode.standard_error, costs.decode.n))
    for batch, timing in costs.rounds.items():
        rows.append(("round_s", batch, timing.seconds, timing.standard_error, timing.n))
        rows.append(("round_j", batch, timing.joules, "", timing.n))
    for steps, score in scores.items():
        rows.append(("quality", steps, score.value, score.standard_error, score.n))
        rows += [(name, steps, *figures, score.n) for name, figures in score.parts.items()]
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def rounded(value: float) -> float:
    """Six significant digits: more than any measurement here holds."""
    return float(f"{value:.6g}")


def listed(values: Sequence[int] | dict[int, Any]) -> str:
    return ", ".join(map(str, values))


def describe_hardware(device: Literal["cpu", "cuda"], threads: int) -> str:
    """The processor or the GPU by its name."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return f"{processor_name()}, {threads} thread{'s' if threads > 1 else ''}"


def processor_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def fingerprint(path: Path) -> str:
    """A hash of a file's or a folder's contents and names."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode())
            with open(file, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def profile_name(text: str) -> str:
    """In lower case with hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "measured"


def save_measured(measured: Measured, out: Path) -> list[Path]:
    """Write ``my.csv``, ``my.samples/`` and, last, the profile ``my.json``; returns what was written."""
    samples = out.with_suffix(".samples")
    if measured.strips:
        check_writable(samples)
        for old in samples.glob("steps-*.png"):
            old.unlink()
    for steps, strip in measured.strips.items():
        save_image(strip, samples / f"steps-{steps:03d}.png")
    write_csv(out.with_suffix(".csv"), measured.rows)
    write_text(out, measured.profile.model_dump_json(indent=2) + "\n")
    return [out, out.with_suffix(".csv"), *([samples] if measured.strips else [])]


def load_measured(path: Path) -> Measured:
    """What ``save_measured`` wrote, by the profile's path. Raises ``UserError`` where it is not whole."""
    profile = read_profile(path.resolve(), str(path))
    try:
        with open(path.with_suffix(".csv"), newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
        strips = {
            int(strip.stem.removeprefix("steps-")): np.asarray(Image.open(strip))
            for strip in sorted(path.with_suffix(".samples").glob("steps-*.png"))
        }
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: its measured points cannot be read ({error}); measure it again") from None
    return Measured(profile, rows, strips)
