"""The report of a run: figures as PNG files, a self-contained HTML page, and the table for the console."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgebrush.evaluation.run_folder import Run, load_run
from edgebrush.files import check_writable, write_text
from edgebrush.plotting import percent, save_figure

from . import closed_loop, description, text
from .caution import caution
from .figures import figures
from .groups import groups
from .pages import TEMPLATES, fill

if TYPE_CHECKING:
    from rich.table import Table

REPORT, FIGURES = "report.html", "figures"
MORE_DECIMALS = 3  # at most, to show that two values differ

ALT = {
    "learning-curve": "Line chart: cost in training over time, with the best rule as a horizontal line",
    "differences": "Dot chart: relative difference in cost to every other policy with 95% intervals",
    "cost-split": "Stacked bars: each policy's cost split into delay, energy, quality and penalties",
    "choices": "Stacked bars: shares of places and of step counts for each policy and kind of request",
    "delay": "Line chart: share of tasks done within a delay, for each kind of request",
    "load": "Three line charts: cost, own-device share and steps from low to high load",
}


class Row(NamedTuple):
    """A policy in the table, as text."""

    name: str
    cost: str
    interval: str
    gap: str  # the subject's cost relative to this policy's
    delay: str
    p95: str
    energy: str
    quality: str
    local: str
    steps: str
    failed: str
    fairness: str


HEADERS = Row(
    "policy",
    "cost",
    "95% interval",
    "gap",
    "delay s",
    "p95 s",
    "UE J",
    "quality",
    "own device",
    "steps",
    "failed",
    "fairness",
)


def table_rows(run: Run) -> list[Row]:
    """The table of all policies, the cheapest first."""
    rows = []
    gaps = run.results["policies"][run.subject]["less_than"]
    for name in run.ranking:
        metrics = run.results["policies"][name]
        cost, delay = metrics["cost"], metrics["delay_s"]
        failed = metrics["missed"]["mean"] + metrics["lost"]["mean"]
        rows.append(
            Row(
                name=name,
                cost=f"{cost['mean']:.4f}",
                interval=f"{cost['ci_low']:.4f} – {cost['ci_high']:.4f}",
                gap=percent(gaps[name]["relative"]["mean"]) if name in gaps else "",
                delay=f"{delay['mean']:.2f}",
                p95=f"{delay['p95']:.1f}",
                energy=f"{metrics['energy_ue_j']['mean']:.2f}",
                quality=f"{metrics['quality']['mean']:.3f}",
                local=f"{metrics['local']['mean']:.0%}",
                steps=f"{metrics['steps']['mean']:.1f}",
                failed=f"{failed:.2%}" if failed else "0",
                fairness=f"{metrics['fairness']:.3f}",
            )
        )
    return rows


def console_table(run: Run) -> Table:
    """The table of all policies with the columns that fit a terminal of 80 columns."""
    from rich.table import Table

    columns = {
        "name": "policy",
        "cost": "cost",
        "interval": "95% interval",
        "gap": "gap",
        "delay": "delay s",
        "p95": "p95 s",
        "quality": "quality",
        "local": "own",
        "steps": "steps",
    }
    title = f"{run.scenario.title}: mean cost per task (gap: {text.title_of(run.subject)} vs the policy)"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="bold")
    for field, header in columns.items():
        table.add_column(header, justify="left" if field == "name" else "right", no_wrap=True)
    for row in table_rows(run):
        style = "bold cyan" if row.name == run.subject else None
        table.add_row(*(getattr(row, field) for field in columns), style=style)
    return table


def render(run: Run, folder: Path) -> None:
    """Write ``figures/*.png`` and ``report.html`` into a run's folder. Raises ``UserError``."""
    check_writable(folder / FIGURES)
    images = {}
    for name, draw in figures(run).items():
        path = folder / FIGURES / f"{name}.png"
        save_figure(partial(draw, run), path)
        images[name] = path.read_bytes()
    write_text(folder / REPORT, page(run, images))


def render_again(folder: Path) -> Run:
    """Draw the figures and the report of a run folder again from its data. Raises ``UserError``."""
    run = load_run(folder)
    render(run, folder)
    return run


def page(run: Run, images: dict[str, bytes]) -> str:
    """The report as one HTML page that loads nothing from the network."""
    parts = groups(run)
    found = run.results.get("testbed", {}).get("closed_loop")
    encoded = {name: base64.b64encode(image).decode("ascii") for name, image in images.items()}
    return fill(
        TEMPLATES / REPORT,
        run=run,
        text=text,
        caution=caution(run),
        description=description,
        subject=text.title_of(run.subject),
        images=encoded,
        alt=ALT,
        tiles=_tiles(run),
        percent=percent,
        headers=HEADERS,
        rows=table_rows(run),
        groups=parts,
        differences=text.differences(run, parts),
        closed_loop=closed_loop.table(found) if found else [],
        closed_loop_caption=closed_loop.CAPTION,
    )


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    """The most important numbers: (label, the subject's value, the rival's)."""
    names = [name for name in (run.subject, run.rival) if name]
    metrics = [run.results["policies"][name] for name in names]
    formatted = {
        "cost per task": distinct([each["cost"]["mean"] for each in metrics], 4),
        "mean delay": distinct([each["delay_s"]["mean"] for each in metrics], unit=" s"),
        "95% done within": distinct([each["delay_s"]["p95"] for each in metrics], unit=" s"),
        "phone energy per image": distinct([each["energy_ue_j"]["mean"] for each in metrics], unit=" J"),
        "quality (0 to 1)": distinct([each["quality"]["mean"] for each in metrics], 3),
    }
    return [
        (label, values[0], f"{run.rival}: {values[1]}" if len(values) > 1 else "")
        for label, values in formatted.items()
    ]


def distinct(values: Sequence[float], decimals: int | None = None, unit: str = "") -> list[str]:
    """Values as text, with more decimals where they would otherwise look the same.

    By default the smallest that is not 0 has three significant digits, and all have at least one decimal.
    """
    if decimals is None:
        smallest = min((abs(value) for value in values if value), default=1.0)
        decimals = max(1, 2 - math.floor(math.log10(smallest)))
    for more in range(MORE_DECIMALS + 1):
        shown = [f"{value:.{decimals + more}f}{unit}" for value in values]
        if len(set(shown)) == len(shown):
            return shown
    return [f"{value:.{decimals}f}{unit}" for value in values]
