"""`edgebrush fit-scenario`: fit a scenario to what agents have recorded in their journals."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import SCENARIO_HELP

if TYPE_CHECKING:
    from rich.table import Table

    from edgebrush.fitting.estimate import Estimate

TIMES = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"]
EPILOG = """\
edgebrush fit-scenario ue-1 ue-2 --scenario fleet.yaml    journals of UE 1 and UE 2: fitted.yaml

edgebrush fit-scenario 3=/var/lib/edgebrush/journal --scenario fleet.yaml --from 2026-11-26T09:00 --to 2026-11-26T11:00

edgebrush compare fitted.yaml --policy old=runs/fleet/policies/mappo/seed-1    what would retraining gain?

docs/fitting.md states how each field is estimated.
"""


def fit_scenario(
    journal: Annotated[
        list[str],
        typer.Argument(
            metavar="[N=]JOURNAL",
            help="Folder of an agent's journal (`ue --journal`). A folder called ue-N is that of UE N; N= states it.",
        ),
    ],
    scenario: Annotated[str, typer.Option(help=f"The scenario to fit. {SCENARIO_HELP}")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="File for the fitted scenario (.yaml).")] = Path(
        "fitted.yaml"
    ),
    name: Annotated[
        str | None, typer.Option(help="Name of the fitted scenario.", show_default="that of the file")
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option(
            "--from", formats=TIMES, help="Use requests from this time on (UTC).", show_default="the first one"
        ),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", formats=TIMES, help="Use requests before this time (UTC).", show_default="the last one"),
    ] = None,
    min_tasks: Annotated[
        int, typer.Option(min=2, help="A field with fewer tasks (or requests) behind it is left as it was.")
    ] = 30,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Fit a scenario to agents' journals: arrivals, requests, links, and the speeds of stations and devices.

    Prints each field before and after, the number of tasks behind it, and a 95% interval. A field is left as it was if
    too few tasks are behind it, or if it lies within the interval. Agents may be running.
    """
    from datetime import UTC

    from rich.console import Console

    from edgebrush.files import write_text
    from edgebrush.fitting.fit import check_fitted, fit, fitted_text
    from edgebrush.fitting.records import assign_journals, read_records
    from edgebrush.scenario.load import load_scenario

    from .options import check_new_file, scenario_name

    check_new_file(out, (".yaml", ".yml"), overwrite)
    title = scenario_name(name, out)
    loaded = load_scenario(scenario)
    window = [each and each.replace(tzinfo=UTC) for each in (start, end)]
    records = read_records(assign_journals(journal, loaded), loaded, *window)
    estimates = fit(loaded, records, min_tasks)
    text = fitted_text(scenario, title, estimates, out)
    check_fitted(text, out)
    write_text(out, text)

    console = Console(highlight=False, markup=False)
    console.print(estimate_table(estimates))
    console.print(
        f"\n{len(records.requests):,} requests, {len(records.tasks):,} tasks of {len(records.ues)} UEs in "
        f"{records.span_s:,.0f} s; {sum(each.changed for each in estimates)} fields changed: {out}",
        soft_wrap=True,
    )


def estimate_table(estimates: list[Estimate]) -> Table:
    """One row per field: before, after, records behind it, 95% interval, and why it was left."""
    from rich.table import Table

    from edgebrush.fitting.fit import shown

    table = Table(title="Fit", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("field", style="cyan", overflow="fold")
    for column in ("before", "after", "records"):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("95% interval", overflow="fold")
    table.add_column("", style="dim", overflow="fold")
    for each in estimates:
        after = shown(each.after) if each.changed else "="
        interval = f"{each.interval[0]:.3g} to {each.interval[1]:.3g}" if each.interval else ""
        table.add_row(".".join(map(str, each.path)), shown(each.before), after, f"{each.count:,}", interval, each.note)
    return table
