"""Arguments and options that several verbs share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgebrush.errors import UserError
from edgebrush.evaluation import EVALUATED_TASKS
from edgebrush.files import check_writable
from edgebrush.logs import LogFormat

from .completion import complete_scenario

OWN_CODE = "module:Class[:argument] loads a class of your own and runs its code."  # see policies/plugins.py
SCENARIO_NAME = r"[a-z0-9][a-z0-9-]*"
SCENARIO_HELP = "Name of a preset, or path of a .yaml file."

ScenarioArgument = Annotated[
    str, typer.Argument(metavar="SCENARIO", help=SCENARIO_HELP, autocompletion=complete_scenario)
]
ScenarioOption = Annotated[str, typer.Option("--scenario", help=SCENARIO_HELP, autocompletion=complete_scenario)]
TraceOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Replay this request trace as the arrivals (CSV, GenTD26 columns)."),
]
LoadOption = Annotated[
    float | None,
    typer.Option(
        help="Scale the arrivals to this offered load. 1 is what the base stations can serve at 15 steps "
        "with full batches."
    ),
]
DecisionsOption = Annotated[
    int | None, typer.Option(min=1, help="Budget of each training in decisions, instead of --seconds.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="New folder for the run.", show_default="runs/<scenario>-<time>"),
]
EpisodesOption = Annotated[
    int | None,
    typer.Option(help="Number of held-out episodes.", show_default=f"enough for {EVALUATED_TASKS:,} tasks"),
]
TasksOption = Annotated[bool, typer.Option("--tasks-csv", help="Also write every task of every policy to tasks.csv.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the run folder if it exists.")]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Jobs in parallel.", show_default="one per core")]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Run the jobs on Ray instead of in local processes: local starts Ray on this machine; auto or HOST:PORT "
        "joins a cluster.",
    ),
]
AllowHostOption = Annotated[
    list[str],
    typer.Option(
        metavar="NAME",
        help="Name under which clients reach this server; repeatable. localhost and IP addresses need none.",
    ),
]
AllowOriginOption = Annotated[
    list[str],
    typer.Option(
        metavar="ORIGIN", help="Site, as https://images.example, whose pages may use this server; repeatable."
    ),
]
LogFormatOption = Annotated[
    LogFormat, typer.Option(help="Form of the records on stderr: lines of text, or one JSON object per line.")
]
LogLevelOption = Annotated[
    Literal["error", "warning", "info"],
    typer.Option(help="Least severe records to log; info has a record per task and per refused request."),
]
TracesOption = Annotated[
    bool,
    typer.Option(
        "--traces",
        help="Export OpenTelemetry traces by OTLP over HTTP; OTEL_* variables say where (needs the extra [otel]).",
    ),
]


def parse_list(field: str, text: str) -> tuple[int, ...]:
    """Parse comma-separated integers and sort them. Raises ``UserError``."""
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UserError(f"{field} = {text!r}: must be comma-separated whole numbers, for example 1,2,4") from None


def check_new_file(path: Path, suffixes: tuple[str, ...], overwrite: bool) -> None:
    """Raises ``UserError`` unless a file with one of these suffixes can be written, without loss of an older one."""
    if path.suffix not in suffixes:
        raise UserError(f"out = {str(path)!r}: give a name that ends in {' or '.join(suffixes)}")
    if path.exists() and not overwrite:
        raise UserError(f"out = {str(path)!r}: already exists; give another name, or --overwrite")
    check_writable(path.parent)


def scenario_name(name: str | None, path: Path) -> str:
    """A scenario's name, by default that of its file. Raises ``UserError`` where it is not valid."""
    found = name or path.stem
    if not re.fullmatch(SCENARIO_NAME, found):
        raise UserError(f"name = {found!r}: must be lower-case letters, digits and hyphens; give --name")
    return found
