"""`edgebrush journal`: what an agent did, from its journal, as a table, as files for other programs, and as images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebrush.errors import UserError
from edgebrush.files import check_writable, write_bytes, write_csv, write_text

if TYPE_CHECKING:
    from rich.table import Table

    from edgebrush.journal.summary import Group

EPILOG = """\
edgebrush journal ue-1    how many tasks ended where, and their delays

edgebrush journal ue-1 --tasks tasks.csv --events events.json --images pictures
"""
COLUMNS = ("tasks", "share", "steps", "p50 s", "p95 s", "p99 s", "UE J", "BS J")


def journal(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of an agent's journal (`ue --journal`).")],
    tasks: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one row per task to a .csv or .json file.")
    ] = None,
    events: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one row per event to a .csv or .json file.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the images to files in this folder.")
    ] = None,
) -> None:
    """Show the tasks of an agent's journal by place and error, with delays. The agent may be running."""
    from rich.console import Console

    from edgebrush.journal.reader import check_journal, read_journal, read_tasks
    from edgebrush.journal.summary import summarize

    check_journal(folder)
    for path in filter(None, (tasks, events)):
        check_suffix(path)
    rows = read_tasks(folder)
    Console(highlight=False).print(summary_table(folder, summarize(rows)))
    if tasks is not None:
        write_rows(tasks, rows)
    if events is not None:
        write_rows(events, read_journal(folder))
    if images is not None:
        write_images(images, folder, [row["task"] for row in rows if row["state"] == "image"])


def summary_table(folder: Path, groups: Sequence[Group]) -> Table:
    """One row per group of tasks; delays as quantiles, energy per task."""
    from rich.table import Table

    table = Table(title=str(folder), title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("place", style="cyan", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for group in groups:
        delays = group.delays_s or (None, None, None)
        numbers = (group.steps, *delays, group.ue_j, group.bs_j)
        formats = (".1f", ".3f", ".3f", ".3f", ".3g", ".3g")
        cells = ["" if number is None else f"{number:{form}}" for number, form in zip(numbers, formats, strict=True)]
        table.add_row(group.name, str(group.tasks), f"{group.share:.1%}", *cells)
    return table


def check_suffix(path: Path) -> None:
    """Raises ``UserError`` where a file is neither .csv nor .json."""
    if path.suffix not in (".csv", ".json"):
        raise UserError(f"{path}: give a name that ends in .csv or .json")


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows; in CSV, lists and mappings are JSON. Raises ``UserError`` where the file cannot be written."""
    if path.suffix == ".json":
        write_text(path, json.dumps(rows, indent=1) + "\n")
    else:
        write_csv(path, [{name: flat(value) for name, value in row.items()} for row in rows])
    typer.echo(f"{len(rows)} rows: {path}")


def flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def write_images(target: Path, folder: Path, tasks: Sequence[str]) -> None:
    """Write the images of tasks under the tasks' names. Raises ``UserError`` where one cannot be written."""
    from urllib.parse import quote

    from edgebrush.api.pictures import inspect
    from edgebrush.journal.reader import read_image

    check_writable(target)
    for task in tasks:
        if image := read_image(folder, task):  # else it was removed in the meantime
            try:
                suffix, _ = inspect(image)
            except ValueError:
                suffix = "unknown"
            write_bytes(target / f"{quote(task, safe='')}.{suffix}", image)
    typer.echo(f"{len(tasks)} images: {target}")
