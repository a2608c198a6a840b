"""`edgebrush tune-learners`: the same search for every learner's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import JobsOption, ScenarioArgument

EPILOG = """\
edgebrush tune-learners mine.yaml --out mine.learners.json

edgebrush tune-learners campus --out src/edgebrush/learning/tuned/campus.json    what train and reproduce then use

edgebrush tune-learners campus --algorithm qmix --out src/edgebrush/learning/tuned/campus.json    one more
"""


def tune_learners(
    scenario: ScenarioArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the choice goes (.json); its log lies beside it.")],
    algorithm: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="This learner; repeatable.", show_default="all")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Of each learner.")] = 12,
    decisions: Annotated[int, typer.Option(min=1, help="Of each trial's training.")] = 1_000_000,
    jobs: JobsOption = None,
) -> None:
    """Search every learner's settings with the same budget, on training and validation seeds; goes on if begun."""
    from edgebrush.jobs.executor import default_workers
    from edgebrush.scenario.load import load_scenario
    from edgebrush.tuning.hyperparameters import search_hyperparameters

    from .progress import bars, command_line

    loaded = load_scenario(scenario)
    with bars() as progress:
        about = search_hyperparameters(
            loaded,
            out,
            algorithms=algorithm or (),
            trials=trials,
            decisions=decisions,
            workers=jobs or default_workers(),
            command=command_line(),
            progress=progress,
        )
    for name, chosen in about["algorithms"].items():
        settings = ", ".join(f"{number} = {value:g}" for number, value in chosen["settings"].items())
        typer.echo(f"{name:<14} {chosen['cost']:.4f}   (as it comes {chosen['cost_as_it_comes']:.4f})   {settings}")
    typer.echo(f"settings: {out}, log: {out.with_suffix('.csv')}")
