"""The report of a run: its figures as PNG files, one self-contained HTML page, and the same table for the
console.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgebrush.evaluation.run_folder import Run, load_run
from edgebrush.files import check_writable, whole, write_text
from edgebrush.plotting import percent, style

from . import text as words
from .figures import figures
from .pages import TEMPLATES, fill

if TYPE_CHECKING:
    from rich.table import Table

REPORT, FIGURES = "report.html", "figures"

ALT = {
    "learning-curve": "Line chart: cost in training over time, with the best rule as a level line",
    "differences": "Dot chart: relative difference in cost to each rival with 95% intervals",
    "cost-split": "Stacked bars: each policy's cost split into delay, energy, quality and penalties",
    "choices": "Stacked bars: shares of places and of step counts for each policy and kind of request",
    "delay": "Line chart: share of tasks done within a time, for each kind of request",
    "load": "Three line charts: cost, own-device share and steps from calm to busy moments",
}


class Row(NamedTuple):
    """A policy in the table, as text."""

    name: str
    cost: str
    interval: str
    against: str  # the subject's difference to it
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
    "against it",
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
        figures = run.results["policies"][name]
        cost, delay = figures["cost"], figures["delay_s"]
        failed = figures["missed"]["mean"] + figures["lost"]["mean"]
        rows.append(
            Row(
                name=name,
                cost=f"{cost['mean']:.4f}",
                interval=f"{cost['ci_low']:.4f} – {cost['ci_high']:.4f}",
                against=percent(gaps[name]["relative"]["mean"]) if name in gaps else "",
                delay=f"{delay['mean']:.2f}",
                p95=f"{delay['p95']:.1f}",
                energy=f"{figures['energy_ue_j']['mean']:.2f}",
                quality=f"{figures['quality']['mean']:.3f}",
                local=f"{figures['local']['mean']:.0%}",
                steps=f"{figures['steps']['mean']:.1f}",
                failed=f"{failed:.2%}" if failed else "0",
                fairness=f"{figures['fairness']:.3f}",
            )
        )
    return rows


def console_table(run: Run) -> Table:
    """The table of all policies for a terminal, as much of it as 80 columns hold."""
    from rich.table import Table

    columns = {
        "name": "policy",
        "cost": "cost",
        "interval": "95% interval",
        "against": "gap",
        "delay": "delay s",
        "p95": "p95 s",
        "quality": "quality",
        "local": "own",
        "steps": "steps",
    }
    title = f"{run.scenario.title}: mean cost per task (gap: {words.title_of(run.subject)}'s to it)"
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
    images = {name: _draw(run, name, folder / FIGURES / f"{name}.png") for name in figures(run)}
    write_text(folder / REPORT, page(run, images))


def render_again(folder: Path) -> Run:
    """Figures and report of a run folder anew, from what is stored there. Raises ``UserError``."""
    run = load_run(folder)
    render(run, folder)
    return run


def _draw(run: Run, name: str, path: Path) -> bytes:
    with style(), whole(path) as unfinished:
        figures(run)[name](run).savefig(unfinished, format="png")
    return path.read_bytes()


def page(run: Run, images: dict[str, bytes]) -> str:
    """The report as one HTML page that asks nothing of the network."""
    parts = words.groups(run)
    encoded = {name: base64.b64encode(image).decode("ascii") for name, image in images.items()}
    return fill(
        TEMPLATES / REPORT,
        run=run,
        words=words,
        subject=words.title_of(run.subject),
        images=encoded,
        alt=ALT,
        tiles=_tiles(run),
        percent=percent,
        headers=HEADERS,
        rows=table_rows(run),
        groups=parts,
        where=words.where(run, parts),
    )


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    """The figures to see first: what, how much, against what."""
    ours = run.results["policies"][run.subject]
    theirs = run.results["policies"][run.rival] if run.rival else None

    def against(text: str) -> str:
        return f"{run.rival}: {text}" if theirs else ""

    cost, delay = ours["cost"], ours["delay_s"]
    return [
        ("cost per task", f"{cost['mean']:.4f}", against(f"{theirs['cost']['mean']:.4f}") if theirs else ""),
        (
            "mean delay",
            f"{delay['mean']:.1f} s",
            against(f"{theirs['delay_s']['mean']:.1f} s") if theirs else "",
        ),
        (
            "95% done within",
            f"{delay['p95']:.1f} s",
            against(f"{theirs['delay_s']['p95']:.1f} s") if theirs else "",
        ),
        (
            "phone energy per image",
            f"{ours['energy_ue_j']['mean']:.1f} J",
            against(f"{theirs['energy_ue_j']['mean']:.1f} J") if theirs else "",
        ),
        (
            "quality (0 to 1)",
            f"{ours['quality']['mean']:.3f}",
            against(f"{theirs['quality']['mean']:.3f}") if theirs else "",
        ),
    ]
