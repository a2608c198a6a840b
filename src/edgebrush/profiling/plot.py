"""What was measured in one picture: seconds per round, quality against steps, and sample images of each step count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from edgebrush.plotting import COLOURS, plain, save_figure, titled

from .measure import Measured

WIDTH, CURVES_HEIGHT, ROW_HEIGHT = 11.0, 4.0, 0.62  # inches; a row of sample images


def save_picture(models: Sequence[Measured], path: Path) -> None:
    """Draw measured models beside each other to a ``.png``. Raises ``UserError`` where that cannot be written."""
    save_figure(draw(models), path, dpi=150)


def draw(models: Sequence[Measured]) -> Figure:
    """The curves of all models above, their samples below, a column a model."""
    sampled = [model for model in models if model.strips]
    height = ROW_HEIGHT * max((len(model.strips) for model in sampled), default=0) + 0.5 * bool(sampled)
    figure = Figure(figsize=(WIDTH, CURVES_HEIGHT + height), layout="constrained")
    parts: Any = figure.subfigures(2 if sampled else 1, 1, height_ratios=[CURVES_HEIGHT, height][: 1 + bool(sampled)])
    top, *below = np.atleast_1d(parts)
    rounds, quality = top.subplots(1, 2)
    for axes in (rounds, quality):
        plain(axes)
    draw_rounds(rounds, models)
    draw_quality(quality, models)
    for part in below:
        columns = np.atleast_1d(part.subfigures(1, len(sampled)))
        for column, model in zip(columns, sampled, strict=True):
            draw_samples(column, model)
    return figure


def draw_rounds(axes: Axes, models: Sequence[Measured]) -> None:
    for model, colour in zip(models, COLOURS, strict=False):
        batch, seconds, errors = np.array(model.of("round_s")).T
        axes.errorbar(batch, 1e3 * seconds, 1e3 * errors, fmt="o", ms=5, color=colour)
        line = np.linspace(1, batch.max(), 100)
        axes.plot(line, 1e3 * model.profile.compute.round_s(line), color=colour, label=model.profile.name)
    titled(axes, "A denoising round, measured and fitted")
    axes.set(xlabel="images in the batch", ylabel="milliseconds per round", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False)


def draw_quality(axes: Axes, models: Sequence[Measured]) -> None:
    """The points with bars of two standard errors, and the curve."""
    ticks: set[int] = set()
    for model, colour in zip(models, COLOURS, strict=False):
        points = model.profile.quality.points
        steps = [point.steps for point in points]
        errors = [2.0 * (point.standard_error or 0.0) for point in points]
        axes.errorbar(steps, [point.quality for point in points], errors, fmt="o", ms=5, capsize=3, color=colour)
        line = np.geomspace(min(steps), max(steps), 200)
        axes.plot(line, model.profile.quality.at(line), color=colour, label=model.profile.name)
        ticks |= set(steps)
    titled(axes, "Quality against steps (bars: ±2 standard errors)")
    axes.set(xscale="log", xlabel="denoising steps", ylabel="quality Q", ylim=(0, 1.02))
    axes.set_xticks(sorted(ticks), map(str, sorted(ticks)))
    axes.minorticks_off()
    axes.legend(frameon=False, loc="lower right")


def draw_samples(part: SubFigure, model: Measured) -> None:
    """A row per step count, the same seeds and prompts in each."""
    part.suptitle(f"{model.profile.name}: samples by steps", x=0.02, ha="left", fontweight="bold", fontsize=11)
    rows = part.subplots(len(model.strips), 1, squeeze=False)[:, 0]
    for axes, (steps, strip) in zip(rows, sorted(model.strips.items()), strict=True):
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_ylabel(str(steps), rotation=0, ha="right", va="center")
