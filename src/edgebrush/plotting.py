"""The one plotting style: colours, rc parameters, labels in percent, log axes, rows of intervals, and saving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from edgebrush.files import atomic_write

# Okabe and Ito (2008): readers with any kind of colour vision can tell these apart.
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#e69f00", "#009e73", "#cc79a7"
SKY, VERMILION, YELLOW, GREY = "#56b4e9", "#d55e00", "#f0e442", "#9a9a9a"
COLOURS = (BLUE, VERMILION, GREEN, PINK, SKY, ORANGE)  # of a figure's series, in this order

STYLE: dict[Any, Any] = {  # of matplotlib.rcParams
    "font.size": 10,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#333333",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "text.color": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.dpi": 150,
}


@contextmanager
def style() -> Iterator[None]:
    """Apply the style to figures that are made and saved inside the block."""
    with matplotlib.rc_context(STYLE):
        yield


def save_figure(draw: Callable[[], Figure], path: Path) -> None:
    """Draw a figure and write it, both in the style, in the format of the path's suffix. Raises ``UserError``."""
    with style(), atomic_write(path) as unfinished:
        draw().savefig(unfinished, format=path.suffix[1:].lower())


def set_title(figure: FigureBase, title: str) -> None:
    """Title a figure, or a part of one, at its left edge. A panel has ``axes.set_title``, which looks the same."""
    figure.suptitle(title, x=0.01, ha="left")


def percent(share: float, digits: int = 1) -> str:
    """A signed share in percent with a real minus sign: ``−1.3%``."""
    return f"{100 * share:+.{digits}f}%".replace("-", "−")


def percent_ticks(axis: Axis, zero: float = 0.0) -> None:
    """Label an axis of shares with whole signed percents, relative to ``zero``."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: percent(value - zero, 0) if value != zero else "0"))


def log_ticks(axis: Axis) -> None:
    """Label a log axis with plain numbers at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def draw_intervals(
    labels: Sequence[str],
    intervals: Sequence[tuple[float, float, float]],
    colours: Sequence[str],
    text: Callable[[float], str],
    reference: float | None = None,
) -> Figure:
    """A row for each (value, low, high), the first at the top: a dot with its interval, and the same as text.

    ``reference`` draws a vertical line.
    """
    figure = Figure(figsize=(9, 1.4 + 0.32 * len(labels)), layout="constrained")
    axes = figure.subplots()
    rows = zip(intervals, colours, strict=True)
    for y, ((value, low, high), colour) in zip(range(len(labels) - 1, -1, -1), rows, strict=True):
        error = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axes.errorbar(value, y, xerr=error, fmt="o", color=colour, capsize=3, linewidth=2)
        written = f"{text(value)} [{text(low)}, {text(high)}]"
        axes.annotate(written, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8.5)
    if reference is not None:
        axes.axvline(reference, color="#333333", linewidth=1)
    axes.set_yticks(range(len(labels)), labels[::-1])
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.grid(axis="y", visible=False)
    return figure
