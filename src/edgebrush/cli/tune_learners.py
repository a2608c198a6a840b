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
    trials: Annotated[int, typer.Option(min=1, help="Settings tried per learner, the defaults among them.")] = 9,
    decisions: Annotated[
        int,
        typer.Option(min=9, help="Decisions per training in the last rung; the first rung's are shorter."),
    ] = 3_000_000,
    jobs: JobsOption = None,
    ray: RayOption = None,
) -> None:
    """Search every learner's hyperparameters with the same budget; an interrupted search resumes.

    Successive halving: every setting gets short trainings with three seeds, the best third gets trainings three times
    as long, and so on. The defaults take part in every rung.
    """
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
        typer.echo(f"{name:<14} {chosen['cost']:.4f}   (default {chosen['default_cost']:.4f})   {settings}")
    typer.echo(f"settings: {out}, log: {out.with_suffix('.csv')}")
    exit_for([Failure(**failure) for failure in about["failed_jobs"]])
