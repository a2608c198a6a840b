"""`edgebrush tune-learners`: search every learner's hyperparameters with the same budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .completion import complete_algorithm
from .options import JobsOption, RayOption, ScenarioArgument

EPILOG = """\
edgebrush tune-learners mine.yaml --out mine.learners.json

edgebrush tune-learners campus --out src/edgebrush/learning/tuned/campus.json    the defaults of train and reproduce

edgebrush tune-learners campus --algorithm qmix --out src/edgebrush/learning/tuned/campus.json    add one learner

edgebrush tune-learners mine.yaml --out mine.learners.json --ray auto    its trials on a Ray cluster
"""


def tune_learners(
    scenario: ScenarioArgument,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="File for the result (.json); the log goes to a .csv beside it.")
    ],
    algorithm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this learner; repeatable.",
            show_default="all",
            autocompletion=complete_algorithm,
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials per learner.")] = 12,
    decisions: Annotated[int, typer.Option(min=1, help="Decisions per trial.")] = 1_000_000,
    jobs: JobsOption = None,
    ray: RayOption = None,
) -> None:
    """Search every learner's hyperparameters with the same budget; an interrupted search resumes."""
    from edgebrush.jobs.executor import Failure
    from edgebrush.scenario.load import load_scenario
    from edgebrush.tuning.hyperparameters import search_hyperparameters

    from .console import command_line, progress_bars
    from .executors import exit_for, open_executor

    loaded = load_scenario(scenario)
    with open_executor(ray, jobs) as executor, progress_bars() as progress:
        about = search_hyperparameters(
            loaded,
            out,
            algorithms=algorithm or (),
            trials=trials,
            decisions=decisions,
            executor=executor,
            command=command_line(),
            progress=progress,
        )
    for name, chosen in about["algorithms"].items():
        settings = ", ".join(f"{number} = {value:g}" for number, value in chosen["settings"].items())
        typer.echo(f"{name:<14} {chosen['cost']:.4f}   (default {chosen['cost_as_it_comes']:.4f})   {settings}")
    typer.echo(f"settings: {out}, log: {out.with_suffix('.csv')}")
    exit_for([Failure(**failure) for failure in about["failed_jobs"]])
