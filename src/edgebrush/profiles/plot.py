"""Draw profiles as a figure: seconds and joules against batch size, steps on phones, quality against steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from edgebrush.errors import UserError
from edgebrush.plotting import BLUE, COLOURS, save_figure

from .schema import Profile, QualityPoint

BATCHES = np.arange(1, 17)
BATCH_TICKS = (1, 4, 8, 12, 16)
STEPS = np.geomspace(1, 50, 200)
STEP_TICKS = (1, 2, 4, 8, 15, 30, 50)
FORMATS = (".png", ".pdf", ".svg")


def save_catalogue_figure(profiles: Sequence[Profile], path: Path) -> None:
    """Draw profiles to a ``.png``, ``.pdf`` or ``.svg``.

    Raises ``UserError`` for another format, or if the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"plot = {str(path)!r}: must end in {', '.join(FORMATS)}")
    save_figure(partial(draw_catalogue, profiles), path)


def draw_catalogue(profiles: Sequence[Profile]) -> Figure:
    """Draw four panels: the heavy models' rounds, their energy, the light models' steps, the quality of all."""
    heavy = [profile for profile in profiles if profile.role == "heavy"]
    light = [profile for profile in profiles if profile.role == "light"]
    figure = Figure(figsize=(12, 8.4), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15))
    # A subfigure per row: the long names of phones must not narrow the panels above them.
    rows: Any = figure.subfigures(2, 1)
    top, bottom = rows
    rounds, joules = top.subplots(1, 2)
    phones, quality = bottom.subplots(1, 2, width_ratios=(0.8, 1))
    draw_rounds(rounds, heavy)
    draw_joules(joules, heavy)
    draw_light_steps(phones, light)
    draw_quality(quality, profiles)
    return figure


def draw_rounds(axes: Axes, heavy: Sequence[Profile]) -> None:
    """Draw the seconds of a round by batch size."""
    for profile, colour in zip(heavy, COLOURS, strict=False):
        axes.plot(BATCHES, profile.compute.round_s(BATCHES), color=colour, label=profile.name)
    axes.set_title("Time of a denoising round at a base station")
    axes.set(xlabel="images in the batch", ylabel="seconds per round")
    axes.set(xlim=(1, BATCHES[-1]), ylim=(0, None), xticks=BATCH_TICKS)
    axes.legend()


def draw_joules(axes: Axes, heavy: Sequence[Profile]) -> None:
    """Draw the joules per image of a round by batch size."""
    for profile, colour in zip(heavy, COLOURS, strict=False):
        axes.plot(BATCHES, profile.energy.round_j(BATCHES) / BATCHES, color=colour, label=profile.name)
    axes.set_title("Energy of a denoising round at a base station")
    axes.set(xlabel="images in the batch", ylabel="joules per step and image")
    axes.set(xlim=(1, BATCHES[-1]), ylim=(0, None), xticks=BATCH_TICKS)


def draw_light_steps(axes: Axes, light: Sequence[Profile]) -> None:
    """Draw a bar per light model: the seconds of a step, labelled with its joules."""
    light = sorted(light, key=lambda profile: -float(profile.compute.round_s(1)))
    seconds = [float(profile.compute.round_s(1)) for profile in light]
    joules = [float(profile.energy.round_j(1)) for profile in light]
    bars = axes.barh([f"{profile.hardware}\n{profile.model}" for profile in light], seconds, 0.6, color=BLUE)
    labels = [
        f"{step_s:.2g} s, {step_j:.2g} J" + ("*" if profile.energy.assumption else "")
        for step_s, step_j, profile in zip(seconds, joules, light, strict=True)
    ]
    axes.bar_label(bars, labels, padding=4)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_title("Denoising step of a light model")
    axes.set(xlabel="seconds per step     (* energy assumed, not measured)")
    axes.set(xlim=(0, 1.45 * max(seconds, default=1.0)))


def draw_quality(axes: Axes, profiles: Sequence[Profile]) -> None:
    """Draw one quality curve per group of profiles that share it, with its points and its ceiling."""
    curves: dict[tuple[float, tuple[QualityPoint, ...]], list[Profile]] = {}
    for profile in profiles:
        quality = profile.quality
        curves.setdefault((round(quality.ceiling, 3), quality.points), []).append(profile)
    best_first = sorted(curves.items(), key=lambda curve: -curve[0][0])
    for colour, ((ceiling, points), group) in zip(COLOURS, best_first, strict=False):
        models = "\n".join(sorted({profile.model for profile in group}))
        axes.plot(STEPS, group[0].quality.at(STEPS), color=colour, label=models)
        steps, qualities = [point.steps for point in points], [point.quality for point in points]
        axes.plot(steps, qualities, "o", color=colour, ms=6, mec="white")
        axes.axhline(ceiling, color=colour, lw=1, ls=":")
    axes.set_title("Quality against steps: curves fitted to points")
    axes.set(xscale="log", xlabel="denoising steps (dotted: ceiling)", ylabel="quality Q", ylim=(0, 1.05))
    axes.set_xlim(STEPS[0], STEPS[-1])
    axes.set_xticks(STEP_TICKS, map(str, STEP_TICKS))
    axes.minorticks_off()
    axes.legend(loc="lower right", labelspacing=0.8)
