"""Draw measured models as a figure: seconds per round, quality against steps, and sample images by step count."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from edgebrush.plotting import COLOURS, save_figure, set_title

from .profile_writer import MeasuredProfile

WIDTH, CURVES_HEIGHT, ROW_HEIGHT = 11.0, 4.0, 0.62  # inches; a row of sample images


def save_measurement_figure(models: Sequence[MeasuredProfile], path: Path) -> None:
    """Draw measured models side by side to a ``.png``. Raises ``UserError`` if the file cannot be written."""
    save_figure(partial(draw_measurements, models), path)


def draw_measurements(models: Sequence[MeasuredProfile]) -> Figure:
    """Draw the curves of all models in one row; below it, a column of sample images per model."""
    sampled = [model for model in models if model.strips]
    height = ROW_HEIGHT * max((len(model.strips) for model in sampled), default=0) + 0.5 * bool(sampled)
    figure = Figure(figsize=(WIDTH, CURVES_HEIGHT + height), layout="constrained")
    parts: Any = figure.subfigures(2 if sampled else 1, 1, height_ratios=[CURVES_HEIGHT, height][: 1 + bool(sampled)])
    top, *below = np.atleast_1d(parts)
    rounds, quality = top.subplots(1, 2)
    draw_rounds(rounds, models)
    draw_quality(quality, models)
    for part in below:
        columns = np.atleast_1d(part.subfigures(1, len(sampled)))
        for column, model in zip(columns, sampled, strict=True):
            draw_samples(column, model)
    return figure


def draw_rounds(axes: Axes, models: Sequence[MeasuredProfile]) -> None:
    """Draw the measured seconds of a round by batch size, and the fitted lines."""
    ticks: set[float] = set()
    for model, colour in zip(models, COLOURS, strict=False):
        batch, seconds, errors = np.array(model.points("round_s")).T
        axes.errorbar(batch, 1e3 * seconds, 1e3 * errors, fmt="o", ms=5, color=colour)
        line = np.linspace(1, batch.max(), 100)
        axes.plot(line, 1e3 * model.profile.compute.round_s(line), color=colour, label=model.profile.name)
        ticks |= set(batch.tolist())
    axes.set_title("Denoising round, measured and fitted")
    axes.set(
        xlabel="images in the batch",
        ylabel="milliseconds per round",
        xlim=(0, None),
        ylim=(0, None),
        xticks=sorted(ticks),
    )
    axes.legend()


def draw_quality(axes: Axes, models: Sequence[MeasuredProfile]) -> None:
    """Draw the points with bars of two standard errors, and the fitted curves."""
    ticks: set[int] = set()
    for model, colour in zip(models, COLOURS, strict=False):
        points = model.profile.quality.points
        steps = [point.steps for point in points]
        errors = [2.0 * (point.standard_error or 0.0) for point in points]
        axes.errorbar(steps, [point.quality for point in points], errors, fmt="o", ms=5, capsize=3, color=colour)
        line = np.geomspace(min(steps), max(steps), 200)
        axes.plot(line, model.profile.quality.at(line), color=colour, label=model.profile.name)
        ticks |= set(steps)
    axes.set_title("Quality against steps (bars: ±2 standard errors)")
    axes.set(xscale="log", xlabel="denoising steps", ylabel="quality Q", ylim=(0, 1.02))
    axes.set_xticks(sorted(ticks), map(str, sorted(ticks)))
    axes.minorticks_off()
    axes.legend(loc="lower right")


def draw_samples(part: SubFigure, model: MeasuredProfile) -> None:
    """Draw a row of sample images per step count, with the same seeds and prompts in each row."""
    set_title(part, f"{model.profile.name}: samples by steps")
    rows = part.subplots(len(model.strips), 1, squeeze=False)[:, 0]
    for axes, (steps, strip) in zip(rows, sorted(model.strips.items()), strict=True):
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_ylabel(str(steps), rotation=0, ha="right", va="center")
