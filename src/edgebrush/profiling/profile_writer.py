"""Measure a GDM, fit the curves of a profile to the points, and write or read the profile with its points."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from edgebrush.diffusion.backend import Backend
from edgebrush.diffusion.images import save_image
from edgebrush.diffusion.samplers import Sampler
from edgebrush.errors import UserError
from edgebrush.files import check_writable, write_csv, write_text
from edgebrush.machine import processor_name
from edgebrush.profiles.catalogue import read_profile
from edgebrush.profiles.fit import fit_round, fit_saturating
from edgebrush.profiles.schema import Compute, Energy, Profile, Quality, QualityPoint
from edgebrush.progress import ProgressCallback

from .measure import Costs, MeasurementPlan, WorkFolder, measure_costs
from .meters import Meter
from .quality import Score
from .quality_curve import NamedScorer, measure_quality

COLUMNS = ("quantity", "at", "value", "standard_error", "n")
POOR_FIT = 0.1  # relative leave-one-out error of a fitted line that is worth a warning
DIGITS = 6  # significant ones: more than any measurement here has

Role = Literal["light", "heavy"]


@dataclass(frozen=True)
class MeasuredProfile:
    """A profile and the points that it was fitted to.

    ``rows`` have the fields ``COLUMNS``. ``strips`` has an image (H, n W[, 3]) of n samples per step count, with the
    same seeds and prompts in each.
    """

    profile: Profile
    rows: list[dict[str, Any]]
    strips: dict[int, np.ndarray] = field(default_factory=dict)

    def points(self, quantity: str) -> list[tuple[float, float, float]]:
        """Return (at, value, standard error) of a measured quantity; the error is NaN if there is none."""
        return [
            (
                float(row["at"]),
                float(row["value"]),
                float("nan" if row["standard_error"] == "" else row["standard_error"]),
            )
            for row in self.rows
            if row["quantity"] == quantity
        ]


def measure_profile(
    backend: Backend,
    sampler: Sampler,
    plan: MeasurementPlan,
    meter: Meter,
    work: WorkFolder,
    progress: ProgressCallback,
    *,
    role: Role,
    name: str,
    hardware: str,
    quality_from: NamedScorer | Profile,
) -> MeasuredProfile:
    """Measure everything that a profile holds.

    The quality is measured with a scorer, or copied from another profile. ``name`` is converted to a valid profile
    name; ``hardware`` is what ``backend`` runs on. Prompts that state no guidance have the backend's. Raises
    ``UserError`` if no curve fits; for the costs, which take seconds, this is known before the images are generated,
    which takes hours.
    """
    plan = replace(plan, prompts=tuple(prompt.with_default(backend.guidance) for prompt in plan.prompts))
    costs = measure_costs(backend, sampler, plan, meter, work, progress)
    compute = compute_block(costs, role, hardware, plan.prompts[0].guidance)
    energy = energy_block(costs, role, meter)
    scores: dict[int, Score] = {}
    strips: dict[int, np.ndarray] = {}
    if isinstance(quality_from, Profile):
        quality = copy_quality(quality_from)
    else:
        scores, strips = measure_quality(backend, sampler, quality_from, plan, work, progress)
        quality = quality_block(scores, f"{type(sampler).__name__} sampler, scored by {quality_from.name}")
    profile = Profile(
        name=profile_name(name),
        title=f"{backend.name} on {hardware}",
        role=role,
        model=backend.name,
        hardware=hardware,
        resolution_px=costs.resolution_px,
        compute=compute,
        energy=energy,
        quality=quality,
    )
    return MeasuredProfile(profile, table_rows(costs, scores), strips)


def fit_warnings(profile: Profile) -> list[str]:
    """Return a sentence for every line of costs that misses its points by more than ``POOR_FIT``."""
    errors = {"seconds": profile.compute.error, "joules": profile.energy.error}
    return [
        f"the fitted {unit} of a round miss the measured ones by {error:.0%}; measure on a quieter machine, or at the "
        "batch sizes that you will use"
        for unit, error in errors.items()
        if error is not None and error > POOR_FIT
    ]


def copy_quality(profile: Profile) -> Quality:
    """Return another profile's quality, marked as not measured here."""
    quality = profile.quality
    mark = f"not measured here: the points of profile {profile.name}"
    return quality.model_copy(
        update={
            "source": f"{mark} ({quality.source})",
            "assumption": "; ".join(filter(None, [mark, quality.assumption])),
        }
    )


def compute_block(costs: Costs, role: Role, hardware: str, guidance: float | None) -> Compute:
    """Fit the seconds of a round, measured with a guidance. Raises ``UserError`` if they do not rise with the batch."""
    seconds = {batch: timing.seconds for batch, timing in costs.rounds.items()}
    intercept, slope, error = fit_rounds(seconds, role)
    repeats = min(timing.n for timing in costs.rounds.values())
    return Compute(
        source=f"measured on {hardware}: median of {repeats} or more rounds at batch {comma_separated(seconds)}",
        encode_s=rounded(costs.encode.seconds),
        decode_s=rounded(costs.decode.seconds),
        round_intercept_s=intercept,
        round_slope_s=slope,
        error=error,
        guidance=guidance,
    )


def energy_block(costs: Costs, role: Role, meter: Meter) -> Energy:
    """Fit the joules of a round. Raises ``UserError`` if they do not rise with the batch."""
    joules = {batch: timing.joules for batch, timing in costs.rounds.items()}
    intercept, slope, error = fit_rounds(joules, role)
    return Energy(
        source=f"{meter.source}, at batch {comma_separated(joules)}",
        assumption=meter.assumption,
        fixed_j=rounded(costs.encode.joules + costs.decode.joules),
        round_intercept_j=intercept,
        round_slope_j=slope,
        error=error,
    )


def fit_rounds(values: dict[int, float], role: Role) -> tuple[float, float, float | None]:
    """Fit the cost of a round by batch size; returns (intercept, slope, relative leave-one-out error).

    A light model runs one task at a time, so its slope is the cost at the smallest batch. Raises ``UserError`` if the
    line does not rise.
    """
    if role == "light":
        return 0.0, rounded(values[min(values)] / min(values)), None
    intercept, slope, error = map(rounded, fit_round(list(values), list(values.values())))
    if slope <= 0.0:
        raise UserError(
            f"batches = {tuple(values)}: a round takes no longer with more images in it; use larger batches, or "
            "measure on a less busy machine"
        )
    return intercept, slope, error


def quality_block(scores: dict[int, Score], method: str) -> Quality:
    """Fit the quality curve to the scores by step count."""
    points = [
        QualityPoint(steps=steps, quality=rounded(score.value), standard_error=rounded(score.standard_error))
        for steps, score in sorted(scores.items())
    ]
    ceiling, half_steps, sharpness, error = map(rounded, fit_saturating(points))
    n = min(score.n for score in scores.values())
    return Quality(
        source=f"measured: {n} images per step count, {method}",
        ceiling=ceiling,
        half_steps=half_steps,
        sharpness=sharpness,
        points=tuple(points),
        error=error,
    )


def table_rows(costs: Costs, scores: dict[int, Score]) -> list[dict[str, Any]]:
    """Return all measured points, one row each."""
    rows: list[tuple[Any, ...]] = [("encode_s", "", costs.encode.seconds, costs.encode.standard_error, costs.encode.n)]
    rows.append(("decode_s", "", costs.decode.seconds, costs.decode.standard_error, costs.decode.n))
    rows.append(("fixed_j", "", costs.encode.joules + costs.decode.joules, "", min(costs.encode.n, costs.decode.n)))
    for batch, timing in costs.rounds.items():
        rows.append(("round_s", batch, timing.seconds, timing.standard_error, timing.n))
        rows.append(("round_j", batch, timing.joules, "", timing.n))
    for steps, score in scores.items():
        rows.append(("quality", steps, score.value, score.standard_error, score.n))
        rows += [(name, steps, *value_and_error, score.n) for name, value_and_error in score.parts.items()]
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def rounded(value: float) -> float:
    """Round to ``DIGITS`` significant digits."""
    return float(f"{value:.{DIGITS}g}")


def comma_separated(values: Sequence[int] | dict[int, Any]) -> str:
    """Join values with commas."""
    return ", ".join(map(str, values))


def describe_hardware(device: Literal["cpu", "cuda"], threads: int) -> str:
    """Return the name of the GPU, or that of the processor with the number of threads."""
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    return f"{processor_name()}, {threads} thread{'s' if threads > 1 else ''}"


def profile_name(text: str) -> str:
    """Convert a text to a valid profile name: lower case with hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "measured"


def save_measured(measured: MeasuredProfile, out: Path) -> list[Path]:
    """Write ``my.csv``, ``my.samples/`` and, last, the profile ``my.json``; returns the paths.

    Raises ``UserError`` if one of them cannot be written.
    """
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


def load_measured(path: Path) -> MeasuredProfile:
    """Read what ``save_measured`` wrote, by the path of the profile. Raises ``UserError`` if a part is missing."""
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
    return MeasuredProfile(profile, rows, strips)
