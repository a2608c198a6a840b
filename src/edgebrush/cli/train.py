"""`edgebrush train`: train a learner and keep its policies; goes on where it was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgebrush.errors import UserError
from edgebrush.learning.registry import ALGORITHMS

from .options import DecisionsOption, LoadOption, ScenarioArgument, TraceOption

EPILOG = """\
edgebrush train campus --out trained --seconds 600

edgebrush train campus --out trained --resume    go on after an interruption

edgebrush train campus --out plain --algorithm mappo-plain --set learning_rate=1e-3 --set epochs=2
"""


def train(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where policies, curve and checkpoint go.")],
    scenario: ScenarioArgument = "campus",
    algorithm: Annotated[str, typer.Option(metavar="NAME", help=f"One of {', '.join(ALGORITHMS)}.")] = "mappo",
    trace: TraceOption = None,
    load: LoadOption = None,
    seconds: Annotated[float, typer.Option(help="Of training, for all seeds together.")] = 220.0,
    decisions: DecisionsOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings, as many at once as there are cores.")] = 4,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NUMBER=VALUE", help="One of the algorithm's own numbers; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in DIR.")] = False,
) -> None:
    """Train a learner on a scenario; DIR then holds a policy folder for each seed, and the learning curve."""
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.variants import asked_for
    from edgebrush.study.train import train_policies

    from .progress import bars

    loaded = asked_for(load_scenario(scenario), trace, load)
    settings = dict(split(each) for each in set_ or ())
    with bars() as progress:
        folders = train_policies(
            loaded,
            out,
            algorithm=algorithm,
            seeds=seeds,
            seconds=seconds,
            decisions=decisions,
            settings=settings,
            resume=resume,
            progress=progress,
        )
    for folder in folders:
        typer.echo(f"policy: {folder}")


def split(setting: str) -> tuple[str, str]:
    """Name and value of ``name=value``. Raises ``UserError``."""
    name, equals, value = setting.partition("=")
    if not (name and equals and value):
        raise UserError(f"--set {setting}: must be NUMBER=VALUE, as in --set learning_rate=1e-3")
    return name, value
