"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ScenarioArgument = Annotated[str, typer.Argument(metavar="SCENARIO", help="A preset's name or a .yaml file.")]
ScenarioOption = Annotated[str, typer.Option("--scenario", help="A preset's name or a .yaml file.")]
TraceOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Replay a request trace (CSV in the GenTD26 columns) as the arrivals."),
]
LoadOption = Annotated[
    float | None,
    typer.Option(help="Scale the arrivals: 1 is what the base stations can do at 15 steps with full batches."),
]
DecisionsOption = Annotated[int | None, typer.Option(min=1, help="End each training after so many decisions instead.")]
OutOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The run folder, which must not be there yet.",
        show_default="runs/<scenario>-<time>",
    ),
]
EpisodesOption = Annotated[
    int | None, typer.Option(help="Held-out episodes.", show_default="as many as 600,000 tasks fill")
]
TasksOption = Annotated[bool, typer.Option("--tasks-csv", help="Also write every task of every policy.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a run folder that is there.")]
JobsOption = Annotated[int | None, typer.Option(min=1, help="Trainings at once.", show_default="one per core")]
