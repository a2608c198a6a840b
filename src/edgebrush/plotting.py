"""One style for every figure: colours, axes, percent labels, and how a figure is saved."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edgebrush.files import whole

BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, YELLOW, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#f0e442",
    "#9a9a9a",
)


STYLE = {
    "font.size": 10,
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
def style():
    """The look of all figures, wherever one is made and saved."""
    with matplotlib.rc_context(STYLE):
        yield


def percent(share: float, digits: int = 1) -> str:
    """A signed share in percent with a real minus sign: ``−1.3%``."""
    return f"{100 * share:+.{digits}f}%".replace("-", "−")


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure in the format that ``path`` ends in. Raises ``UserError`` where it cannot be written."""
    with whole(path) as unfinished:
        figure.savefig(unfinished, format=path.suffix[1:].lower(), dpi=dpi)


def plain(axes: Axes) -> None:
    """No frame above and at the right, a faint grid below the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)


def titled(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
