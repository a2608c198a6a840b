"""The system against the simulator: the same arrivals and the decisions that were really taken, task by task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from edgebrush.files import whole, write_csv, write_text
from edgebrush.plotting import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION, percent, style
from edgebrush.scenario.expand import bs_names
from edgebrush.scenario.schema import Scenario

FILE, TABLE, PICTURE = "against-sim.json", "against-sim.csv", "against-sim.png"
COLUMNS = ("ue", "number", "place", "steps", "service_class", "arrival_s")
MEASURES = ("delay_s", "energy_ue_j", "energy_bs_j", "cost")
PALETTE = (GREY, BLUE, SKY, GREEN, PINK, ORANGE, VERMILION)  # own device, then the BSs, as in the report's figures


def pair(measured: np.ndarray, simulated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the tasks that ended in an image both here and there."""
    images = np.all([(rows["lost"] == 0) & (rows["dropped"] == 0) for rows in (measured, simulated)], axis=0)
    return measured[images], simulated[images]


def errors_of(measured: np.ndarray, simulated: np.ndarray) -> dict[str, Any]:
    """How far off the simulator is, for each measure: means, 95th percentiles, and the error of single tasks.

    Both are ``tables.OUTCOME`` rows of the same tasks. Errors are measured less simulated, or ``relative`` to that.
    """
    found: dict[str, Any] = {"tasks": len(measured)}
    own = measured["place"] == 0
    for name in MEASURES:
        ours, theirs = measured[name], simulated[name]
        apart = ours - theirs
        found[name] = {
            "mean": both(ours.mean(), theirs.mean()),
            "p95": both(np.quantile(ours, 0.95), np.quantile(theirs, 0.95)),
            "task": {
                "median": median(apart),
                "median_own_device": median(apart[own]),
                "median_at_a_bs": median(apart[~own]),
                "mean_absolute": float(np.abs(apart).mean()),
                "p95_absolute": float(np.quantile(np.abs(apart), 0.95)),
                "correlation": correlation(ours, theirs),
            },
        }
    return found


def both(measured: float, simulated: float) -> dict[str, float]:
    relative = float(measured / simulated - 1.0) if simulated else 0.0
    return {"measured": float(measured), "simulated": float(simulated), "relative": relative}


def median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else 0.0


def correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Pearson's, 1 where nothing varies."""
    if len(ours) < 2 or ours.std() == 0.0 or theirs.std() == 0.0:
        return 1.0
    return float(np.corrcoef(ours, theirs)[0, 1])


def write(scenario: Scenario, pairs: dict[str, tuple[np.ndarray, np.ndarray]], folder: Path) -> dict[str, Any]:
    """Write errors, table and picture of each policy's (measured, simulated) outcomes; the errors by policy."""
    found = {policy: errors_of(*pair) for policy, pair in pairs.items()}
    write_text(folder / FILE, json.dumps(found, indent=2))
    write_csv(folder / TABLE, [row for policy, both in pairs.items() for row in table_rows(policy, *both)])
    with whole(folder / PICTURE) as unfinished, style():
        picture(scenario, pairs).savefig(unfinished, format="png")
    return found


def table_rows(policy: str, measured: np.ndarray, simulated: np.ndarray) -> list[dict[str, Any]]:
    """A row for each task."""
    rows = []
    for ours, theirs in zip(measured, simulated, strict=True):
        row: dict[str, Any] = {"policy": policy} | {name: f"{ours[name]:.6g}" for name in COLUMNS}
        for name in MEASURES:
            row |= {f"{name}_measured": f"{ours[name]:.6g}", f"{name}_simulated": f"{theirs[name]:.6g}"}
        rows.append(row)
    return rows


def picture(scenario: Scenario, pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """For each policy measured against simulated delay, task by task, and both distributions."""
    figure = Figure(figsize=(9.5, 3.9 * len(pairs)), layout="constrained")
    rows = figure.subplots(len(pairs), 2, squeeze=False)
    for (policy, (measured, simulated)), (left, right) in zip(pairs.items(), rows, strict=True):
        _scatter(left, scenario, measured, simulated)
        _distributions(right, measured["delay_s"], simulated["delay_s"])
        error = errors_of(measured, simulated)["delay_s"]["mean"]["relative"]
        left.set_title(f"{policy}: each task's delay")
        right.set_title(f"all delays: the mean is {percent(error)} off")
    return figure


def _scatter(axes: Axes, scenario: Scenario, measured: np.ndarray, simulated: np.ndarray) -> None:
    delays = np.concatenate([measured["delay_s"], simulated["delay_s"]])
    low, high = 0.8 * delays.min(), 1.25 * delays.max()
    axes.plot([low, high], [low, high], color="#555555", linewidth=0.9, zorder=1)
    axes.fill_between([low, high], [0.9 * low, 0.9 * high], [1.1 * low, 1.1 * high], color="#eeeeee", zorder=0)
    for place, name in enumerate(["own device", *bs_names(scenario)]):
        there = measured["place"] == place
        colour = PALETTE[min(place, len(PALETTE) - 1)]
        if not there.any():
            continue
        axes.scatter(
            simulated["delay_s"][there],
            measured["delay_s"][there],
            s=18,
            color=colour,
            alpha=0.75,
            linewidth=0,
            label=f"{name} ({there.sum()})",
            zorder=2,
        )
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    for axis in (axes.xaxis, axes.yaxis):
        _tick(axis)
    axes.set(xlabel="simulated, s (grey: within 10%)", ylabel="measured, s")
    axes.legend(loc="upper left")


def _distributions(axes: Axes, measured: np.ndarray, simulated: np.ndarray) -> None:
    share = np.arange(1, len(measured) + 1) / len(measured)
    for delays, name, colour in ((simulated, "simulated", ORANGE), (measured, "measured", BLUE)):
        axes.step(np.sort(delays), share, where="post", color=colour, label=name, linewidth=1.6)
    axes.set(xscale="log", xlabel="delay, s", ylabel="share of the tasks done", ylim=(0, 1))
    _tick(axes.xaxis)
    axes.legend(loc="lower right")


def _tick(axis: Axis) -> None:
    """Plain numbers at 1, 2, 5 and their multiples of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
