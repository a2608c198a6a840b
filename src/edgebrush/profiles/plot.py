"""The catalogue as a picture: seconds and joules against batch size, phones, quality against steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from edgebrush.errors import UserError
from edgebrush.plotting import COLOURS, plain, save_figure, titled

from .schema import Profile

BATCHES = np.arange(1, 17)
STEPS = np.geomspace(1, 50, 200)
STEP_TICKS = (1, 2, 4, 8, 15, 30, 50)
LIGHT_COLOUR = "#0072b2"
FORMATS = (".png", ".pdf", ".svg")


def save_picture(profiles: Sequence[Profile], path: Path) -> None:
    """Draw the profiles to a ``.png``, ``.pdf`` or ``.svg``. Raises ``UserError`` where that cannot be."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"plot = {str(path)!r}: must end in {', '.join(FORMATS)}")
    save_figure(draw(profiles), path, dpi=160)


def draw(profiles: Sequence[Profile]) -> Figure:
    """Four panels: the heavy models' rounds, their energy, the light models on phones, all their quality."""
    heavy = [profile for profile in profiles if profile.role == "heavy"]
    light = [profile for profile in profiles if profile.role == "light"]
    figure = Figure(figsize=(12, 8.4), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15))
    rows: Any = figure.subfigures(2, 1)  # apart, so that the phones' long names narrow no panel above
    top, bottom = rows
    rounds, joules = top.subplots(1, 2)
    phones, quality = bottom.subplots(1, 2, width_ratios=(0.8, 1))
    for panel in (rounds, joules, phones, quality):
        plain(panel)
    draw_rounds(rounds, heavy)
    draw_joules(joules, heavy)
    draw_phones(phones, light)
    draw_quality(quality, profiles)
    return figure


def draw_rounds(axes: Axes, heavy: Sequence[Profile]) -> None:
    for profile, colour in zip(heavy, COLOURS, strict=False):
        axes.plot(BATCHES, profile.compute.round_s(BATCHES), color=colour, label=profile.name)
    titled(axes, "A denoising round at a base station")
    axes.set(xlabel="images in the batch", ylabel="seconds per round")
    axes.set(xlim=(1, BATCHES[-1]), ylim=(0, None), xticks=[1, 4, 8, 12, 16])
    axes.legend(frameon=False)


def draw_joules(axes: Axes, heavy: Sequence[Profile]) -> None:
    for profile, colour in zip(heavy, COLOURS, strict=False):
        axes.plot(BATCHES, profile.energy.round_j(BATCHES) / BATCHES, color=colour, label=profile.name)
    titled(axes, "The energy of such a round")
    axes.set(xlabel="images in the batch", ylabel="joules per step and image")
    axes.set(xlim=(1, BATCHES[-1]), ylim=(0, None), xticks=[1, 4, 8, 12, 16])


def draw_phones(axes: Axes, light: Sequence[Profile]) -> None:
    light = sorted(light, key=lambda profile: -profile.compute.round_s(1))
    seconds = [profile.compute.round_s(1) for profile in light]
    bars = axes.barh([f"{profile.hardware}\n{profile.model}" for profile in light], seconds, 0.6, color=LIGHT_COLOUR)
    labels = [
        f"{second:.2f} s, {profile.energy.round_j(1):.2f} J" + ("*" if profile.energy.assumption else "")
        for second, profile in zip(seconds, light, strict=True)
    ]
    axes.bar_label(bars, labels, padding=4)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    titled(axes, "A denoising step on a phone")
    axes.set(xlabel="seconds per step     (* energy assumed, not measured)")
    axes.set(xlim=(0, 1.45 * max(seconds, default=1.0)))


def draw_quality(axes: Axes, profiles: Sequence[Profile]) -> None:
    curves: dict[tuple, list[Profile]] = {}
    for profile in profiles:
        quality = profile.quality
        curves.setdefault((round(quality.ceiling, 3), quality.points), []).append(profile)
    best_first = sorted(curves.items(), key=lambda curve: -curve[0][0])
    for colour, ((ceiling, points), alike) in zip(COLOURS, best_first, strict=False):
        models = "\n".join(sorted({profile.model for profile in alike}))
        axes.plot(STEPS, alike[0].quality.at(STEPS), color=colour, label=models)
        published = zip(*((point.steps, point.quality) for point in points), strict=True)
        axes.plot(*published, "o", color=colour, ms=6, mec="white")
        axes.axhline(ceiling, color=colour, lw=1, ls=":")
    titled(axes, "Quality against steps: curves fitted to published points")
    axes.set(xscale="log", xlabel="denoising steps (dotted: ceiling)", ylabel="quality Q", ylim=(0, 1.05))
    axes.set_xlim(STEPS[0], STEPS[-1])
    axes.set_xticks(STEP_TICKS, map(str, STEP_TICKS))
    axes.minorticks_off()
    axes.legend(frameon=False, loc="lower right", labelspacing=0.8)
