"""`edgebrush ue --check`: asks every station of a scenario what it does, and prints it as a table."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgebrush.errors import UserError
from edgebrush.logs import safe_line

from .journal import check_suffix, write_rows

if TYPE_CHECKING:
    from rich.table import Table

    from edgebrush.clients.check import ServerCheck
    from edgebrush.scenario.schema import Scenario

COLUMNS = ("kind", "usable", "trip ms", "load", "steps", "seed", "size", "few-step s", "more-step s", "reply kB")
FILE_WIDTH = 120  # characters of the table where the output is no terminal
LOST = "the third decision is lost there"
NOTED = ("steps", "class", "deadline")  # settings that have notes of their own where they are not taken


def check_stations(
    scenario: Scenario,
    urls: Mapping[str, str],
    prompt: str,
    ca_file: Path | None,
    token_env: str | None,
    file: Path | None,
) -> bool:
    """Ask every station with an address, one after the other, print the table and write ``file`` if given.

    Returns whether all of them can be used. Raises ``UserError`` where no station has an address, and as
    ``servers_of`` does.
    """
    from rich.console import Console
    from rich.text import Text

    if file is not None:
        check_suffix(file)
    checks = asyncio.run(ask_stations(scenario, urls, prompt, ca_file, token_env))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    console.print(check_table(scenario.name, checks))
    for name, found in checks.items():
        for note in notes_of(found):
            console.print(Text(safe_line(f"{name}: {note}")), soft_wrap=True)
    if any(found.kind != "edgebrush" for found in checks.values()):
        console.print("service classes and deadlines reach servers of kind edgebrush only", soft_wrap=True)
    if file is not None:
        write_rows(file, [row_of(name, found) for name, found in checks.items()])
    return all(found.usable for found in checks.values())


async def ask_stations(
    scenario: Scenario, urls: Mapping[str, str], prompt: str, ca_file: Path | None, token_env: str | None
) -> dict[str, ServerCheck]:
    """The check of each station by its name. One at a time: stations on one machine would slow each other down."""
    from edgebrush.clients.access import servers_of, tls_context
    from edgebrush.clients.check import check_server, probe_steps

    servers = servers_of(scenario, urls, token_env)
    if not servers:
        raise UserError(f"{scenario.name}: no base station has an address; give --station NAME=URL, or an endpoint")
    trust, steps = tls_context(ca_file), probe_steps(scenario.decision.step_grid)
    checks = {}
    for each in servers:
        typer.echo(safe_line(f"asking {each.name} for images with {steps[0]} and {steps[1]} steps"), err=True)
        size_px = each.profile.resolution_px
        checks[each.name] = await check_server(each.endpoint, size_px, steps, prompt, key=each.key, trust=trust)
    return checks


def check_table(title: str, checks: Mapping[str, ServerCheck]) -> Table:
    """One row per station."""
    from rich.table import Table

    headers = list(COLUMNS)
    for found in checks.values():
        if found.few and found.more:
            headers[7:9] = [f"{found.few.steps}-step s", f"{found.more.steps}-step s"]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("station", style="cyan", overflow="fold")
    for header in headers:
        table.add_column(header, overflow="fold", justify="right" if header[-2:] in (" s", "ms", "kB") else "left")
    for name, found in checks.items():
        table.add_row(name, *cells_of(found))
    return table


def cells_of(found: ServerCheck) -> list[str]:
    """What the table shows of a station; empty where a check could not find it out."""
    few, more = found.few, found.more
    unknown = "" if few is None else "unclear"
    return [
        found.kind,
        "yes" if found.usable else "no",
        "" if found.round_trip_s is None else f"{1e3 * found.round_trip_s:.3g}",
        "" if not found.reachable else "inferred" if found.tasks_there is None else f"{found.tasks_there:g}",
        {True: "yes", False: "ignored", None: unknown}[found.steps_honoured],
        {True: "yes", False: "ignored", None: "" if few is None else "not sent"}[found.seed_repeats],
        "" if few is None else f"{few.width}x{few.height}",
        "" if few is None else f"{few.seconds:.3g}",
        "" if more is None else f"{more.seconds:.3g}",
        "" if few is None else f"{few.reply_bytes / 1e3:.3g}",
    ]


def notes_of(found: ServerCheck) -> Iterator[str]:
    """What a user should know or do about a station, one line each."""
    if found.problem:
        yield f"cannot be used: {found.problem}"
    if found.looks_like not in (None, found.kind) and not found.problem:
        yield f"looks like {found.looks_like}; give endpoint.kind: {found.looks_like}"
    if found.steps_honoured is False:
        yield f"steps are ignored ({found.steps_evidence}): {LOST}"
    if found.few is not None and found.steps_honoured is None:
        yield f"whether steps count is unclear ({found.steps_evidence}); check again while it is idle"
    if found.seed_repeats is False:
        yield "the same seed gives another picture"
    if found.size_honoured is False and found.few is not None:
        yield f"its images have {found.few.width} x {found.few.height} pixels; {found.size_px} x {found.size_px} asked"
    if found.load_problem:
        yield f"its load cannot be read, so it is inferred: {found.load_problem}"
    ignored = [setting for setting in found.not_sent if setting not in NOTED]
    if ignored and not found.problem:
        yield f"it does not take: {', '.join(ignored)}"


def row_of(name: str, found: ServerCheck) -> dict[str, Any]:
    """A station's check as a flat row of a file."""
    row: dict[str, Any] = {"station": name, "usable": found.usable} | asdict(found)
    for image in ("few", "more"):
        values: dict[str, Any] = row.pop(image) or {}
        row |= {f"{image}_{field}": value for field, value in values.items()}
    for field in ("models", "not_sent"):
        row[field] = list(row[field])
    return row
