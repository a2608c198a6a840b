"""The study's figures: each is a table of rows, written as CSV, and a plot of nothing but those rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from edgebrush.evaluation.aggregates import aggregate, interquartile_mean, profile_bands
from edgebrush.evaluation.statistics import Interval
from edgebrush.files import check_writable, write_csv
from edgebrush.learning.registry import ALGORITHMS
from edgebrush.plotting import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    VERMILION,
    draw_intervals,
    percent,
    percent_ticks,
    save_figure,
    set_title,
)
from edgebrush.policies.rules import KINDS

from .findings import BEST_RULE, SUBJECT, Findings
from .variations import SWEEPS, Sweep

Rows = list[dict[str, Any]]
METRICS = {  # of a sweep's panels and CSV
    "cost": "mean cost per task",
    "delay_s": "mean delay (s)",
    "energy_ue_j": "phone energy per task (J)",
    "quality": "mean quality",
}
PANELS = {"relative_cost": f"mean cost per task relative to {BEST_RULE} at the same point", **METRICS}
HIGHEST = 2.5  # times the median: values above it are in the CSV but outside the plot
CLOSE = 0.08  # above the best rule's cost: the range of the panels in which learners can be distinguished
LEVELS = 61  # of each half of a performance profile, up to CLOSE and above it


class FigureSpec(NamedTuple):
    """A figure: its title, its rows, and the function that plots them."""

    title: str
    rows: Callable[[Findings], Rows]
    plot: Callable[[Rows], Figure]


def drawable(findings: Findings) -> list[str]:
    """The figures for which there are results; where no job failed, all that the study was made for."""
    missing = {name for name in SWEEPS if not findings.variations.get(name)}
    missing |= set() if findings.complete_points else {"profiles"}
    missing |= set() if findings.ablations else {"ablations"}
    missing |= set() if "nothing" in [fixed.decision for fixed, _ in findings.fixed_costs] else {"decisions"}
    return [name for name in FIGURES if name not in missing] if findings.comparable else []


def draw(name: str, findings: Findings, folder: Path) -> None:
    """Write ``name.csv`` and, from its rows, ``name.png``. Raises ``UserError`` where that fails."""
    spec = FIGURES[name]
    rows = spec.rows(findings)
    check_writable(folder)
    write_csv(folder / f"{name}.csv", rows)

    def plot() -> Figure:
        figure = spec.plot(rows)
        set_title(figure, spec.title)
        return figure

    save_figure(plot, folder / f"{name}.png")


def line_style(policy: str) -> dict[str, Any]:
    """Colour, line and marker of a policy, the same in every figure: rules are grey, except for the best one."""
    if policy == SUBJECT:
        return {"color": BLUE, "linestyle": "-", "marker": "o", "linewidth": 2.4, "zorder": 5}
    if policy == BEST_RULE:
        return {"color": ORANGE, "linestyle": "-", "marker": "s", "linewidth": 2.0, "zorder": 4}
    number = (list(KINDS) if policy in KINDS else list(ALGORITHMS)).index(policy)
    marker = "^vDPX<>p*hd"[number % 11]
    if policy in KINDS:
        dashes = ":", "--", "-."
        return {"color": GREY, "linestyle": dashes[number % 3], "marker": marker, "linewidth": 1.0, "zorder": 2}
    colour = (VERMILION, GREEN, PINK, SKY, "#7a5195", "#6b4f3a")[number % 6]
    line = ("-", "--")[number // 6 % 2]
    return {"color": colour, "linestyle": line, "marker": marker, "linewidth": 1.4, "zorder": 3}


def _rows_of(rows: Rows, policy: str) -> Rows:
    return [row for row in rows if row["policy"] == policy]


def _policies(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["policy"] for row in rows))


def _bounds(interval: Interval) -> dict[str, float]:
    return {"ci_low": interval.ci_low, "ci_high": interval.ci_high}


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)


def _limit(axes: Axes, values: list[float]) -> None:
    """Limit the y axis so that policies whose cost explodes do not flatten the others."""
    low, high = min(values), min(max(values), HIGHEST * float(np.median(values)))
    axes.set_ylim(low - 0.08 * (high - low) - 1e-9, high + 0.08 * (high - low) + 1e-9)


def _fill_interval(axes: Axes, x: list[float], rows: Rows, colour: str) -> None:
    low, high = ([row[bound] for row in rows] for bound in ("ci_low", "ci_high"))
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)


def _convergence_rows(findings: Findings) -> Rows:
    rows: Rows = []
    for policy, curves in findings.curves.items():
        seen = [
            {row["decisions"]: row["validation_cost"] for row in curve if "validation_cost" in row} for curve in curves
        ]
        for decisions in sorted(set.intersection(*map(set, seen))):
            costs = np.array([[each[decisions]] for each in seen])
            interval = aggregate(interquartile_mean, costs)
            rows.append({"policy": policy, "decisions": int(decisions), "cost": interval.mean, **_bounds(interval)})
    cost = findings.rule_validation_cost
    return [*rows, {"policy": BEST_RULE, "decisions": "", "cost": cost, "ci_low": cost, "ci_high": cost}]


def _convergence_plot(rows: Rows) -> Figure:
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for policy in _policies(rows):
        mine, line = _rows_of(rows, policy), line_style(policy)
        if policy == BEST_RULE:
            axes.axhline(mine[0]["cost"], label=policy, color=line["color"], linewidth=line["linewidth"])
            continue
        x = [row["decisions"] for row in mine]
        axes.plot(x, [row["cost"] for row in mine], label=policy, markersize=4, **line)
        _fill_interval(axes, x, mine, line["color"])
    _limit(axes, [row["cost"] for row in rows])
    axes.set(xlabel="decisions of training", ylabel="cost per task, validation episodes")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g} M" if value else "0"))
    _legend(figure, axes)
    return figure


def _sweep_rows(sweep: Sweep, findings: Findings) -> Rows:
    variations = sorted(findings.variations[sweep.name], key=sweep.value)
    return [
        {
            "policy": policy,
            sweep.name: float(f"{sweep.value(variation):.6g}"),
            "seed": seed if policy in findings.learners else "",
            "relative_cost": relative,
            **{metric: means[metric] for metric in METRICS},
        }
        for policy in findings.policies
        for variation in variations
        for seed, (means, relative) in enumerate(_runs(findings, variation.name, policy), 1)
    ]


def _runs(findings: Findings, variation: str, policy: str) -> Iterator[tuple[dict[str, float], float]]:
    """The metrics and the relative cost of each training seed on a variation."""
    return zip(findings.means[variation].get(policy, ()), findings.relative(variation, policy).tolist(), strict=True)


def _sweep_plot(sweep: Sweep, rows: Rows) -> Figure:
    """Lines through the means over training seeds, with a dot per seed; the upper panel zooms in on the learners."""
    figure = Figure(figsize=(11, 9.5), layout="constrained")
    ticks = sorted({row[sweep.name] for row in rows})
    named = figure.subplot_mosaic([["relative_cost"] * 2, ["cost", "delay_s"], ["energy_ue_j", "quality"]])
    for metric, axes in named.items():
        shown = []
        for policy in _policies(rows):
            mine, line = _rows_of(rows, policy), line_style(policy)
            at = sorted({row[sweep.name] for row in mine})
            means = [float(np.mean([row[metric] for row in mine if row[sweep.name] == x])) for x in at]
            axes.plot(at, means, label=policy, markersize=4, **line)
            axes.plot(
                [row[sweep.name] for row in mine],
                [row[metric] for row in mine],
                ".",
                color=line["color"],
                markersize=3,
                alpha=0.5,
                zorder=line["zorder"],
            )
            shown += means
        if metric == "relative_cost":
            axes.set_ylim(min(row[metric] for row in rows) - 0.005, 1.0 + CLOSE)
            percent_ticks(axes.yaxis, zero=1.0)
        elif metric != "quality":
            _limit(axes, shown)
        axes.set_title(PANELS[metric])
        axes.set_xlabel(sweep.label)
        axes.set_xticks(ticks, [f"{x:.3g}" for x in ticks])
    _legend(figure, named["relative_cost"])
    return figure


def _comparison_rows(findings: Findings) -> Rows:
    """Interquartile means over training seeds, and the rules' means with intervals over episodes."""
    aggregates = findings.results["aggregates"]
    rows = [
        {"policy": policy, "seeds": aggregates[policy]["seeds"], "cost": middle.mean, **_bounds(middle)}
        for policy in findings.policies
        for middle in [Interval(**aggregates[policy]["interquartile_mean"])]
    ]
    return sorted(rows, key=lambda row: row["cost"])


def _intervals(rows: Rows, value: str) -> list[tuple[float, float, float]]:
    return [(row[value], row["ci_low"], row["ci_high"]) for row in rows]


def _colours(policies: Sequence[str]) -> list[str]:
    return [line_style(policy)["color"] if policy in (*ALGORITHMS, *KINDS) else BLUE for policy in policies]


def _comparison_plot(rows: Rows) -> Figure:
    policies, costs = _policies(rows), [row["cost"] for row in rows]
    figure = draw_intervals(policies, _intervals(rows, "cost"), _colours(policies), lambda cost: f"{cost:.4f}")
    highest = min(max(costs), HIGHEST * float(np.median(costs)))
    label = "cost per task (95% intervals: of learners over training seeds, of rules over episodes)"
    figure.axes[0].set(xlabel=label, xlim=(0.97 * min(costs), 1.03 * highest))
    return figure


def _improvement_rows(findings: Findings) -> Rows:
    rows = []
    for policy in findings.policies:
        if policy == SUBJECT:
            continue
        chance = Interval(**findings.results["aggregates"][policy]["mappo_is_cheaper"])
        rows.append({"policy": policy, "probability": chance.mean, **_bounds(chance)})
    return rows


def _improvement_plot(rows: Rows) -> Figure:
    policies, intervals = _policies(rows), _intervals(rows, "probability")
    figure = draw_intervals(policies, intervals, _colours(policies), lambda chance: f"{chance:.2f}", 0.5)
    label = "probability that a training of MAPPO is cheaper (95% intervals over seeds)"
    figure.axes[0].set(xlabel=label, xlim=(-0.02, 1.02))
    return figure


def _profile_rows(findings: Findings) -> Rows:
    runs = findings.relative_runs()
    every = np.concatenate([each.ravel() for each in runs.values()])
    low, high = np.floor(100 * every.min()) / 100, max(min(every.max(), HIGHEST), 1.0 + CLOSE)
    halves = np.linspace(low, 1.0 + CLOSE, LEVELS), np.linspace(1.0 + CLOSE, high, LEVELS)
    levels = np.unique(np.round(np.concatenate(halves), 4))
    return [
        {"policy": policy, "level": level, "share": band.mean, **_bounds(band)}
        for policy, each in runs.items()
        for level, band in zip(levels.tolist(), profile_bands(each, levels), strict=True)
    ]


def _profile_plot(rows: Rows) -> Figure:
    """The same curves twice: close to the best rule's cost, where learners can be distinguished, and all of them."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    close, far = figure.subplots(1, 2, sharey=True)
    for policy in _policies(rows):
        mine, line = _rows_of(rows, policy), line_style(policy)
        x = [row["level"] for row in mine]
        for axes in (close, far):
            axes.plot(x, [row["share"] for row in mine], label=policy, markevery=LEVELS // 6, markersize=4, **line)
            if policy in ALGORITHMS:
                _fill_interval(axes, x, mine, line["color"])
    close.set_xlim(min(row["level"] for row in rows), 1.0 + CLOSE)
    close.set_ylabel("share of runs below this cost")
    close.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.supxlabel("cost, as a multiple of the best rule's at the same point", fontsize=10)
    _legend(figure, close)
    return figure


def _ablation_rows(findings: Findings) -> Rows:
    rows: Rows = []
    for ablation in findings.ablations:
        more = Interval(**findings.results["policies"][ablation.name]["less_than"][SUBJECT]["relative"])
        cost = findings.results["aggregates"][ablation.name]["mean"]["mean"]
        rows.append(
            {"policy": ablation.name, "taken": ablation.title, "cost": cost, "more": more.mean, **_bounds(more)}
        )
    return rows


def _ablation_plot(rows: Rows) -> Figure:
    titles = [row["taken"] for row in rows]
    figure = draw_intervals(titles, _intervals(rows, "more"), _colours(_policies(rows)), percent, 0.0)
    figure.axes[0].set_xlabel("additional cost relative to MAPPO (paired, 95% intervals over episodes)")
    percent_ticks(figure.axes[0].xaxis)
    return figure


def _decision_rows(findings: Findings) -> Rows:
    """What the best rule costs, tuned anew with one decision fixed; the first row has none fixed."""
    costs = [cost for _, cost in findings.fixed_costs]
    return [
        {"fixed": fixed.decision, "value": fixed.value, "cost": round(cost, 5), "more": round(cost / costs[0] - 1.0, 5)}
        for fixed, cost in findings.fixed_costs
    ]


def _decision_plot(rows: Rows) -> Figure:
    figure = Figure(figsize=(9, 1.4 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    labels = [f"{row['fixed']}: {row['value']}" if row["value"] else row["fixed"] for row in rows]
    bars = axes.barh(labels[::-1], [row["more"] for row in rows[::-1]], color=ORANGE)
    axes.bar_label(bars, [f"{row['cost']:.4f}" for row in rows[::-1]], padding=4)
    axes.margins(x=0.15)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"additional cost of {BEST_RULE}, tuned anew (labels: cost per task on validation episodes)")
    percent_ticks(axes.xaxis)
    return figure


FIGURES = {
    "convergence": FigureSpec(
        "Cost by decisions of training (interquartile means)", _convergence_rows, _convergence_plot
    ),
    "comparison": FigureSpec(
        "Every learner and rule on the same held-out episodes", _comparison_rows, _comparison_plot
    ),
    "improvement": FigureSpec("Probability that MAPPO is cheaper", _improvement_rows, _improvement_plot),
    **{
        name: FigureSpec(f"Metrics by {sweep.label}", partial(_sweep_rows, sweep), partial(_sweep_plot, sweep))
        for name, sweep in SWEEPS.items()
    },
    "profiles": FigureSpec("Performance profiles over all points", _profile_rows, _profile_plot),
    "ablations": FigureSpec("MAPPO with one ingredient removed", _ablation_rows, _ablation_plot),
    "decisions": FigureSpec(f"{BEST_RULE} with one decision fixed", _decision_rows, _decision_plot),
}
