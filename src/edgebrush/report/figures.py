"""The figures of a run: each function draws one from a ``Run``.

Colours mean the same in all figures: the subject is blue, its rival orange, other policies grey. Places and terms of
the cost have colours of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import PercentFormatter

from edgebrush.evaluation.run_folder import Run
from edgebrush.evaluation.statistics import COST_TERMS, DELAY_EDGES_S, METRICS, Interval, verdict
from edgebrush.plotting import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    VERMILION,
    draw_intervals,
    log_ticks,
    percent,
    percent_ticks,
    set_title,
)
from edgebrush.policies.rules import KINDS
from edgebrush.scenario.expand import bs_names

TERM_COLOURS = {"delay_cost": BLUE, "energy_cost": GREEN, "quality_cost": ORANGE, "penalty_cost": VERMILION}
TERM_NAMES = {
    "delay_cost": "delay",
    "energy_cost": "energy",
    "quality_cost": "quality",
    "penalty_cost": "penalties",
}
VERDICT_COLOURS = {"better": GREEN, "worse": VERMILION, "level": GREY}
PLACES_SHOWN = 6  # if there are more BSs, they are drawn by class


def figures(run: Run) -> dict[str, Callable[[Run], Figure]]:
    """The functions of the figures for which the run has data, by file name."""
    return {
        **({"learning-curve": learning_curve} if run.curve else {}),
        **({"differences": differences} if run.rival else {}),
        "cost-split": cost_split,
        "choices": choices,
        "delay": delay,
        "load": by_load,
    }


def colour_of(run: Run, name: str) -> str:
    """The colour of a policy."""
    return {run.subject: BLUE, run.rival: ORANGE}.get(name, GREY)


def place_names(run: Run) -> tuple[list[str], np.ndarray]:
    """Names of the drawn places (own device, then BSs or classes of BSs), and the index of each of ``1 + M``."""
    bss = run.scenario.bss
    if run.scenario.bs_count > PLACES_SHOWN:
        owner = np.repeat(np.arange(len(bss)), [bs.count for bs in bss])
        return ["own device", *(f"{bs.name} ({bs.count})" for bs in bss)], np.concatenate([[0], 1 + owner])
    return ["own device", *bs_names(run.scenario)], np.arange(1 + run.scenario.bs_count)


def place_shares(run: Run, counts: np.ndarray) -> np.ndarray:
    """Shares of tasks by drawn place; the last axis of ``counts`` is ``1 + M``."""
    names, drawn = place_names(run)
    grouped = np.zeros((*counts.shape[:-1], len(names)))
    np.add.at(grouped, (..., drawn), counts)  # type: ignore
    return grouped / np.maximum(grouped.sum(-1, keepdims=True), 1)


def learning_curve(run: Run) -> Figure:
    """Validation and training cost of each training seed against time; the best rule as a line."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for seed in sorted({row["seed"] for row in run.curve}):
        rows = [row for row in run.curve if row["seed"] == seed]
        first = seed == 1
        axes.plot(
            [row["seconds"] for row in rows],
            [row["cost"] for row in rows],
            color=BLUE,
            alpha=0.18,
            linewidth=0.8,
            label="MAPPO, training episodes" if first else None,
        )
        validated = [row for row in rows if "validation_cost" in row]
        axes.plot(
            [row["seconds"] for row in validated],
            [row["validation_cost"] for row in validated],
            ".-",
            color=BLUE,
            linewidth=1.6,
            label="MAPPO, validation episodes" if first else None,
        )
    policies = run.results["policies"]
    trained = policies["mappo"]["cost"]["mean"]
    last = max(row["seconds"] for row in run.curve)
    axes.plot([last], [trained], "D", color=BLUE, label="MAPPO, held-out episodes", zorder=5)
    rule = next(name for name in run.ranking if name in KINDS)
    best = policies[rule]["cost"]["mean"]
    axes.axhline(best, color=ORANGE, linewidth=1.8, label=f"{rule}, held-out episodes")
    seen = [row["validation_cost"] for row in run.curve if "validation_cost" in row]
    levels = [trained, best, *np.quantile(seen, (0.0, 0.97))]
    margin = 0.25 * (max(levels) - min(levels) + 1e-9)
    axes.set_ylim(min(levels) - margin, max(levels) + margin)
    axes.set(xlabel="seconds of training", ylabel="mean cost per task", title="Training of MAPPO")
    axes.legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def differences(run: Run) -> Figure:
    """The subject's cost relative to every other policy, with 95% intervals: green if clearly lower, red if higher."""
    gaps = run.results["policies"][run.subject]["less_than"]
    others = [name for name in run.ranking if name != run.subject]
    intervals = [Interval(**gaps[name]["relative"]) for name in others]
    colours = [VERDICT_COLOURS[verdict(gap._asdict(), run.results["episodes"])] for gap in intervals]
    figure = draw_intervals(others, intervals, colours, percent, 0.0)
    (axes,) = figure.axes
    percent_ticks(axes.xaxis)
    axes.set_xlabel(f"cost relative to the policy's: left of 0, {run.subject} is cheaper (95% intervals)")
    axes.set_title(f"Cost of {run.subject} relative to every other policy")
    return figure


def cost_split(run: Run) -> Figure:
    """Mean cost per task of every policy, stacked into its terms."""
    names = run.ranking[::-1]
    figure = Figure(figsize=(8, 1.4 + 0.38 * len(names)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(names))
    for term in COST_TERMS:
        width = np.array([run.results["policies"][name][term]["mean"] for name in names])
        axes.barh(range(len(names)), width, left=left, color=TERM_COLOURS[term], height=0.7, label=TERM_NAMES[term])
        left += width
    for row in range(len(names)):
        axes.annotate(f"{left[row]:.3f}", (left[row], row), (5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    _bold_label(axes, names, run.subject)
    # A rule that collapses under the load would compress all others: cut its bar, and print its value.
    limit = max(3.0 * left.min(), 1.25 * float(np.median(left)))
    if left.max() > limit:
        axes.set_xlim(0, limit)
        for row in np.flatnonzero(left > limit).tolist():
            axes.annotate(
                f"{left[row]:.2f} ►",
                (limit, row),
                (-4, 0),
                textcoords="offset points",
                va="center",
                ha="right",
                fontsize=9,
                color="white",
                fontweight="bold",
            )
    else:
        axes.set_xlim(0, 1.12 * left.max())
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="mean cost per task", title="Cost by term")
    axes.legend(ncols=4, loc="lower right", bbox_to_anchor=(1.0, 1.0), handlelength=1.2, columnspacing=1.2)
    return figure


def choices(run: Run) -> Figure:
    """Shares of places and of step counts: by policy, and by kind of request for subject and rival."""
    names = run.ranking[::-1]
    kinds = [kind.name for kind in run.scenario.requests]
    pair = [name for name in (run.subject, run.rival) if name]
    rows = [(name, kind) for name in pair for kind in range(len(kinds))][::-1]
    figure = Figure(figsize=(10, 2.2 + 0.34 * len(names) + 0.42 * len(rows)), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.1 + 0.34 * len(names), 1.1 + 0.42 * len(rows)])  # type: ignore
    all_counts = [run.digests[name].choices for name in names]
    _choice_panels(run, top, names, all_counts, run.subject, "Place (left) and denoising steps (right)")
    labels = [f"{name}: {kinds[kind]}" for name, kind in rows]
    kind_counts = [run.digests[name].choices[[kind]] for name, kind in rows]
    _choice_panels(run, bottom, labels, kind_counts, None, "By kind of request: " + " and ".join(pair))
    return figure


def _choice_panels(
    run: Run, figure: SubFigure, labels: list[str], counts: list[np.ndarray], bold: str | None, title: str
) -> None:
    """Two panels of stacked shares with a row per label: places and steps. ``bold``: with legends and this row bold."""
    places, steps = figure.subplots(1, 2, sharey=True)
    names, _ = place_names(run)
    by_place = place_shares(run, np.array([count.sum((0, 1, 3, 4)) for count in counts]))
    _stack(places, by_place, names, [GREY, BLUE, SKY, GREEN, PINK, ORANGE, VERMILION])
    grid = run.scenario.decision.step_grid
    by_steps = np.array([count.sum((0, 1, 2, 4)) for count in counts], float)
    by_steps /= np.maximum(by_steps.sum(1, keepdims=True), 1)
    shades = matplotlib.colormaps["viridis_r"](np.linspace(0.05, 0.95, len(grid)))
    _stack(steps, by_steps, [str(k) for k in grid], shades)
    for axes in (places, steps):
        axes.set_yticks(range(len(labels)), labels)
        axes.grid(visible=False)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
    if bold:
        _bold_label(places, labels, bold)
        for axes, columns in ((places, 4), (steps, len(grid))):
            axes.legend(
                ncols=min(columns, 9),
                loc="lower left",
                bbox_to_anchor=(0, 1),
                handlelength=0.9,
                fontsize=8,
                columnspacing=0.9,
                handletextpad=0.4,
                borderaxespad=0.2,
            )
    set_title(figure, title)


def _stack(axes: Axes, shares: np.ndarray, names: list[str], colours) -> None:
    """Stacked horizontal bars; a bar that is wide enough shows its share."""
    left = np.zeros(len(shares))
    for column, (name, colour) in enumerate(zip(names, colours, strict=False)):
        axes.barh(range(len(shares)), shares[:, column], left=left, color=colour, height=0.78, label=name)
        dark = np.dot(matplotlib.colors.to_rgb(colour), (0.299, 0.587, 0.114)) < 0.55
        for row, share in enumerate(shares[:, column]):
            if share >= 0.08:
                axes.text(
                    left[row] + share / 2,
                    row,
                    f"{100 * share:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "#222222",
                )
        left += shares[:, column]


def delay(run: Run) -> Figure:
    """Distribution of the delay: a panel for each kind of request, a curve for each policy."""
    kinds = run.scenario.requests
    columns = min(len(kinds), 3)
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(max(5.5, 4.8 * columns), 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    middle = np.sqrt(DELAY_EDGES_S[1:] * DELAY_EDGES_S[:-1])
    total = sum(digest.delays.sum(0) for digest in run.digests.values())
    seen = np.flatnonzero(total > 0)
    for axes, (number, kind) in zip(panels, enumerate(kinds), strict=False):
        for name in run.ranking[::-1]:
            counts = run.digests[name].delays[number]
            highlighted = name in (run.subject, run.rival)
            requested = run.digests[name].by_request[:, number, METRICS.index("tasks")].sum()
            label = name if highlighted else "other policies" if name == run.ranking[-1] else None
            axes.plot(
                middle,
                np.cumsum(counts) / max(requested, 1),
                color=colour_of(run, name),
                label=label,
                linewidth=2.2 if highlighted else 0.9,
                zorder=3 if highlighted else 2,
                alpha=1.0 if highlighted else 0.7,
            )
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
        axes.set(title=f"“{kind.name}”: {kind.share:.0%} of the requests", xlabel="delay (s)")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlim(0.8 * middle[seen[0]], 1.1 * np.interp(0.999, np.cumsum(total) / total.sum(), middle))
    panels[0].set_ylabel("share of tasks done within the delay")
    panels[0].legend(loc="lower right")
    for unused in panels[len(kinds) :]:
        unused.set_visible(False)
    return figure


def by_load(run: Run) -> Figure:
    """Cost, own-device share and steps by load, for subject, rival and three other policies."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    panels = figure.subplots(1, 3)
    shown = [name for name in (run.subject, run.rival) if name]
    others = [name for name in run.ranking if name not in shown]
    fifths = np.arange(run.digests[run.subject].by_load.shape[1])
    metrics = (
        ("cost", "tasks", "mean cost per task"),
        ("local", "tasks", "share on the own device"),
        ("steps", "completed", "mean denoising steps"),
    )
    for axes, (metric, denominator, label) in zip(panels, metrics, strict=True):
        for name in [*others[:3], *shown[::-1]]:
            sums = run.digests[name].by_load.sum(0)
            tasks = sums[:, METRICS.index(denominator)]
            mean = np.where(tasks > 0, sums[:, METRICS.index(metric)] / np.maximum(tasks, 1), np.nan)
            highlighted = name in shown
            axes.plot(
                fifths,
                mean,
                marker="o",
                color=colour_of(run, name),
                label=name,
                markersize=4,
                linewidth=2.2 if highlighted else 1.0,
                zorder=3 if highlighted else 2,
                linestyle="-" if highlighted else (":", "--", "-.")[others.index(name)],
            )
        axes.set_xticks(fifths, ["lowest fifth\nof the load", *[""] * (len(fifths) - 2), "highest fifth\nof the load"])
        axes.set_title(label)
    panels[0].set_ylim(bottom=0)
    panels[2].set_ylim(bottom=0)
    panels[1].set_ylim(0, 1)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=5)
    return figure


def _bold_label(axes: Axes, names: list[str], subject: str) -> None:
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        if name == subject:
            label.set_fontweight("bold")
