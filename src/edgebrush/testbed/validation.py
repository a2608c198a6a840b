"""Validation of the simulator: measured against simulated outcomes, for the same tasks and the same decisions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edgebrush.files import write_csv, write_text
from edgebrush.plotting import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION, log_ticks, percent, save_figure
from edgebrush.scenario.expand import bs_names
from edgebrush.scenario.schema import Scenario

ERRORS, TABLE, PICTURE = "against-sim.json", "against-sim.csv", "against-sim.png"
TASK_COLUMNS = ("ue", "number", "place", "steps", "service_class", "arrival_s")
MEASURES = ("delay_s", "energy_ue_j", "energy_bs_j", "cost")
PALETTE = (GREY, BLUE, SKY, GREEN, PINK, ORANGE, VERMILION)  # own device, then the BSs, as in the report's figures

Pair = tuple[np.ndarray, np.ndarray]  # measured and simulated ``state.OUTCOME`` rows of the same tasks


def common_images(measured: np.ndarray, simulated: np.ndarray) -> Pair:
    """The rows of the tasks that ended in an image in both."""
    images = np.all([(rows["lost"] == 0) & (rows["dropped"] == 0) for rows in (measured, simulated)], axis=0)
    return measured[images], simulated[images]


def simulator_errors(measured: np.ndarray, simulated: np.ndarray) -> dict[str, Any]:
    """Means, 95th percentiles and per-task errors of each measure.

    Errors are measured minus simulated; ``relative`` is this difference over the simulated value.
    """
    found: dict[str, Any] = {"tasks": len(measured)}
    own = measured["place"] == 0
    for name in MEASURES:
        ours, theirs = measured[name], simulated[name]
        error = ours - theirs
        found[name] = {
            "mean": _compare(ours.mean(), theirs.mean()),
            "p95": _compare(np.quantile(ours, 0.95), np.quantile(theirs, 0.95)),
            "task": {
                "median": _median(error),
                "median_own_device": _median(error[own]),
                "median_at_a_bs": _median(error[~own]),
                "mean_absolute": float(np.abs(error).mean()),
                "p95_absolute": float(np.quantile(np.abs(error), 0.95)),
                "correlation": _correlation(ours, theirs),
            },
        }
    return found


def _compare(measured: float, simulated: float) -> dict[str, float]:
    relative = float(measured / simulated - 1.0) if simulated else 0.0
    return {"measured": float(measured), "simulated": float(simulated), "relative": relative}


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Pearson's correlation; 1 where one of them is constant."""
    if len(ours) < 2 or ours.std() == 0.0 or theirs.std() == 0.0:
        return 1.0
    return float(np.corrcoef(ours, theirs)[0, 1])


def write_validation(scenario: Scenario, pairs: dict[str, Pair], folder: Path) -> dict[str, Any]:
    """Write the errors, the table and the picture of each policy's pair; returns the errors by policy."""
    found = {policy: simulator_errors(*pair) for policy, pair in pairs.items()}
    write_text(folder / ERRORS, json.dumps(found, indent=2))
    write_csv(folder / TABLE, [row for policy, pair in pairs.items() for row in _table_rows(policy, *pair)])
    save_figure(lambda: plot_validation(scenario, pairs), folder / PICTURE)
    return found


def _table_rows(policy: str, measured: np.ndarray, simulated: np.ndarray) -> list[dict[str, Any]]:
    """One row per task."""
    rows = []
    for ours, theirs in zip(measured, simulated, strict=True):
        row: dict[str, Any] = {"policy": policy} | {name: f"{ours[name]:.6g}" for name in TASK_COLUMNS}
        for name in MEASURES:
            row |= {f"{name}_measured": f"{ours[name]:.6g}", f"{name}_simulated": f"{theirs[name]:.6g}"}
        rows.append(row)
    return rows


def plot_validation(scenario: Scenario, pairs: dict[str, Pair]) -> Figure:
    """One row of panels per policy: measured over simulated delay of each task, and both delay distributions."""
    figure = Figure(figsize=(9.5, 3.9 * len(pairs)), layout="constrained")
    rows = figure.subplots(len(pairs), 2, squeeze=False)
    for (policy, (measured, simulated)), (left, right) in zip(pairs.items(), rows, strict=True):
        _scatter(left, scenario, measured, simulated)
        _distributions(right, measured["delay_s"], simulated["delay_s"])
        error = simulator_errors(measured, simulated)["delay_s"]["mean"]["relative"]
        left.set_title(f"{policy}: delay of each task")
        right.set_title(f"all delays: measured mean {percent(error)}")
    return figure


def _scatter(axes: Axes, scenario: Scenario, measured: np.ndarray, simulated: np.ndarray) -> None:
    delays = np.concatenate([measured["delay_s"], simulated["delay_s"]])
    low, high = 0.8 * delays.min(), 1.25 * delays.max()
    axes.plot([low, high], [low, high], color="#555555", linewidth=0.9, zorder=1)
    axes.fill_between([low, high], [0.9 * low, 0.9 * high], [1.1 * low, 1.1 * high], color="#eeeeee", zorder=0)
    for place, name in enumerate(["own device", *bs_names(scenario)]):
        here = measured["place"] == place
        if not here.any():
            continue
        axes.scatter(
            simulated["delay_s"][here],
            measured["delay_s"][here],
            s=18,
            color=PALETTE[min(place, len(PALETTE) - 1)],
            alpha=0.75,
            linewidth=0,
            label=f"{name} ({here.sum()})",
            zorder=2,
        )
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    log_ticks(axes.xaxis)
    log_ticks(axes.yaxis)
    axes.set(xlabel="simulated, s (grey: within 10%)", ylabel="measured, s")
    axes.legend(loc="upper left")


def _distributions(axes: Axes, measured: np.ndarray, simulated: np.ndarray) -> None:
    share = np.arange(1, len(measured) + 1) / len(measured)
    for delays, name, colour in ((simulated, "simulated", ORANGE), (measured, "measured", BLUE)):
        axes.step(np.sort(delays), share, where="post", color=colour, label=name, linewidth=1.6)
    axes.set(xscale="log", xlabel="delay, s", ylabel="share of completed tasks", ylim=(0, 1))
    log_ticks(axes.xaxis)
    axes.legend(loc="lower right")
