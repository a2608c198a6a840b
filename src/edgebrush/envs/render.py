"""Draws the world as an RGB array: a map, what each BS works on, and the queues of the UEs' own devices."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from edgebrush.plotting import BLUE, ORANGE, PINK, SKY, VERMILION, YELLOW, style
from edgebrush.scenario.expand import bs_names, bs_positions
from edgebrush.scenario.parameters import NONE
from edgebrush.scenario.schema import MAX_CLASSES, Scenario
from edgebrush.sim.simulator import Simulator

from .snapshot import DOWNLINK, RUNNING, UPLINK, WAITING, Snapshot, take_snapshot

WIDTH, HEIGHT, DPI = 12.0, 7.2, 100  # inches, pixels per inch
COLOURS = {UPLINK: SKY, RUNNING: BLUE, DOWNLINK: PINK}
CLASS_COLOURS = (VERMILION, ORANGE, YELLOW, "#c9b458")[:MAX_CLASSES]
INK, EDGE = "#222222", "#555555"
NAMED_UES, NAMED_BSS = 40, 24  # with more of them, markers shrink and names are left out


def draw_world(simulator: Simulator, e: int = 0) -> np.ndarray:
    """Episode ``e`` at its next decision, ``(720, 1200, 3)`` uint8."""
    scenario, world = simulator.scenario, take_snapshot(simulator, e)
    with style():
        figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        _draw_header(figure, scenario, world)
        _draw_map(figure.add_axes((0.045, 0.075, 0.475, 0.76)), scenario, world)
        _draw_stations(figure.add_axes((0.615, 0.47, 0.365, 0.365)), scenario, world)
        _draw_devices(figure.add_axes((0.615, 0.075, 0.365, 0.27)), scenario, world)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_header(figure: Figure, scenario: Scenario, world: Snapshot) -> None:
    """Name, time with a bar, what is going on, and the legend of all three panels."""
    figure.text(0.02, 0.945, scenario.name, fontsize=17, fontweight="bold")
    state = "drained" if world.drained else "in a burst" if world.in_burst else ""
    figure.text(0.98, 0.945, f"{state}    {world.time_s:.1f} s".strip(), fontsize=17, ha="right")
    cost = f"{world.cost / world.ended:.3f}" if world.ended else "–"
    facts = f"{world.decisions:,} decisions   {world.in_system:,} tasks in the system   cost {cost} per ended task"
    figure.text(0.98, 0.912, facts, fontsize=9.5, color="#666666", ha="right")
    bar = figure.add_axes((0.02, 0.893, 0.96, 0.007))
    bar.set_axis_off()
    bar.set(xlim=(0, 1), ylim=(0, 1))
    bar.add_patch(Rectangle((0, 0), 1, 1, color="#e6e6e6"))
    bar.add_patch(Rectangle((0, 0), min(1.0, world.time_s / scenario.horizon_s), 1, color=INK))
    classes = range(scenario.decision.classes)
    handles = [
        Patch(color=COLOURS[UPLINK], label="sending to the BS"),
        *(
            Patch(color=CLASS_COLOURS[p], label=f"waiting, class {p}" if len(classes) > 1 else "waiting")
            for p in classes
        ),
        Patch(color=COLOURS[RUNNING], label="generating"),
        Patch(color=COLOURS[DOWNLINK], label="sending back"),
    ]
    spacing = {"handlelength": 0.9, "columnspacing": 1.1, "handletextpad": 0.5}
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.012, 0.896), ncols=len(handles), **spacing)


def _draw_map(axes: Axes, scenario: Scenario, world: Snapshot) -> None:
    """Where UEs and BSs are, and which tasks connect them."""
    bss, ues = bs_positions(scenario), world.ue_positions
    width, height = scenario.area_m
    scale = 1.0 if scenario.ue_count <= NAMED_UES else 0.35
    _draw_tasks(axes, world, ues, bss, scale)
    busy = world.device_busy_s > 0
    axes.scatter(
        ues[:, 0], ues[:, 1], s=120 * scale, c=np.where(busy, BLUE, "white"), edgecolor=EDGE, lw=1.2 * scale, zorder=4
    )
    if scale == 1.0:
        for i, (x, y) in enumerate(ues):
            axes.text(x, y, str(i), fontsize=6.5, ha="center", va="center", zorder=5, color="white" if busy[i] else INK)
    if world.deciding_ue != NONE:
        x, y = ues[world.deciding_ue]
        axes.scatter(x, y, s=330 * max(scale, 0.6), facecolor="none", edgecolor=INK, lw=2.0, zorder=6)
    axes.scatter(
        bss[:, 0], bss[:, 1], s=150 * max(scale, 0.5), marker="^", color=INK, edgecolor="white", lw=1.0, zorder=7
    )
    if scenario.bs_count <= NAMED_BSS:
        for name, (x, y) in zip(bs_names(scenario), bss, strict=True):
            label = axes.annotate(name, (x, y), (0, 9), textcoords="offset points", ha="center", fontweight="bold")
            label.set(zorder=8, path_effects=[withStroke(linewidth=3, foreground="white")])
    margin = 0.04 * max(width, height)
    axes.set(xlim=(-margin, width + margin), ylim=(-margin, height + margin), aspect="equal", anchor="NW")
    axes.set_xlabel("metres", loc="right")
    axes.set_title(_headline(world))
    handles = [
        _marker("^", INK, INK, "BS"),
        _marker("o", "white", EDGE, "UE"),
        _marker("o", BLUE, EDGE, "UE, generating"),
        _marker("o", "white", INK, "UE that decides", 2.0),
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.03, -0.045), ncols=4, handletextpad=0.1)


def _draw_tasks(axes: Axes, world: Snapshot, ues: np.ndarray, bss: np.ndarray, scale: float) -> None:
    """A line from UE to BS for each task at a BS, and a dot on it while its input or its image is being sent."""
    lines = LineCollection(
        [(ues[task.ue], bss[task.bs]) for task in world.tasks],
        colors=[_colour(task.phase, task.service_class) for task in world.tasks],
        linewidths=1.4 if scale == 1.0 else 0.8,
        alpha=0.65,
        zorder=1,
    )
    axes.add_collection(lines)
    for phase, marker in ((UPLINK, "o"), (DOWNLINK, "s")):
        moving = [task for task in world.tasks if task.phase == phase]
        up = phase == UPLINK
        places = np.array([_between(ues[t.ue], bss[t.bs], t.progress if up else 1 - t.progress) for t in moving])
        if len(moving):
            axes.scatter(
                places[:, 0],
                places[:, 1],
                s=46 * scale,
                marker=marker,
                color=COLOURS[phase],
                edgecolor="white",
                lw=0.8,
                zorder=3,
            )


def _headline(world: Snapshot) -> str:
    if world.deciding_ue == NONE:
        return "No decision is due"
    return f"ue_{world.deciding_ue} decides on a “{world.deciding_request}” task"


def _draw_stations(axes: Axes, scenario: Scenario, world: Snapshot) -> None:
    """A bar per BS: its tasks by phase. The outline is the batch that it can run."""
    groups = [
        (RUNNING, None),
        *((WAITING, p) for p in range(scenario.decision.classes)),
        (UPLINK, None),
        (DOWNLINK, None),
    ]
    rows, left = np.arange(scenario.bs_count), np.zeros(scenario.bs_count)
    for phase, service_class in groups:
        counts = np.zeros(scenario.bs_count)
        for task in world.tasks:
            if task.phase == phase and service_class in (None, task.service_class):
                counts[task.bs] += 1
        axes.barh(rows, counts, 0.62, left, color=_colour(phase, service_class or 0), edgecolor="white", linewidth=0.6)
        left += counts
    limits = np.array([bs.batch_limit for bs in scenario.bss for _ in range(bs.count)], float)
    axes.barh(rows, limits, 0.78, color="none", edgecolor=INK, linewidth=1.0)
    named = scenario.bs_count <= NAMED_BSS
    axes.set_yticks(rows if named else [], bs_names(scenario) if named else [])
    axes.set(
        ylim=(scenario.bs_count - 0.4, -0.6), xlim=(0, max(10.0, 1.1 * float(left.max(initial=0)))), xlabel="tasks"
    )
    axes.grid(axis="y", visible=False)
    axes.set_title("Base stations (outline: the batch limit)")


def _draw_devices(axes: Axes, scenario: Scenario, world: Snapshot) -> None:
    """A bar per UE: seconds of work in service and waiting on its own device; many UEs are sorted by it."""
    parts = np.vstack([world.device_busy_s, world.device_waiting_s])
    named = scenario.ue_count <= NAMED_UES
    if not named:
        parts = parts[:, np.argsort(-parts.sum(0), kind="stable")]
    bottom = np.zeros(scenario.ue_count)
    for seconds, colour in zip(parts, (COLOURS[RUNNING], *CLASS_COLOURS), strict=False):
        if named:
            axes.bar(np.arange(scenario.ue_count), seconds, 0.75, bottom, color=colour)
        else:
            axes.fill_between(np.arange(scenario.ue_count), bottom, bottom + seconds, step="mid", color=colour, lw=0)
        bottom += seconds
    axes.set(
        xlim=(-0.6, scenario.ue_count - 0.4),
        ylim=(0, max(2 * scenario.cost.delay_ref_s, 1.15 * bottom.max())),
        ylabel="seconds",
    )
    axes.set_xticks(np.arange(scenario.ue_count) if named else [])
    axes.set_xlabel("UE" if named else f"{scenario.ue_count:,} UEs, the busiest first")
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", visible=False)
    axes.set_title("Work on the UEs' own devices")


def _colour(phase: str, service_class: int) -> str:
    return CLASS_COLOURS[service_class] if phase == WAITING else COLOURS[phase]


def _between(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    return start + share * (end - start)


def _marker(marker: str, face: str, edge: str, label: str, width: float = 1.0) -> Line2D:
    return Line2D(
        [], [], marker=marker, linestyle="", markersize=9, markerfacecolor=face, markeredgecolor=edge,
        markeredgewidth=width, label=label,
    )  # fmt: skip
