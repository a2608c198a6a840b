"""`edgebrush train`: train a learner on several seeds; an interrupted training can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgebrush.errors import UserError
from edgebrush.learning.registry import ALGORITHMS
from edgebrush.study import TRAINING_S, TRAINING_SEEDS

from .completion import complete_algorithm
from .options import DecisionsOption, LoadOption, ScenarioArgument, TraceOption

EPILOG = """\
edgebrush train campus --out trained --seconds 600

edgebrush train campus --out trained --resume          continue after an interruption

edgebrush train campus --out qmix --algorithm qmix --decisions 1000000 --seeds 2

edgebrush train campus --out plain --algorithm mappo-plain --set learning_rate=1e-3 --set epochs=2

edgebrush train campus --out mine --algorithm my_module:MyLearner    a learner of your own
"""


def train(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for policies, learning curve and checkpoint.")],
    scenario: ScenarioArgument = "campus",
    algorithm: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"One of {', '.join(ALGORITHMS)}. module:Class loads a learner of your own and runs its code.",
            autocompletion=complete_algorithm,
        ),
    ] = "mappo",
    trace: TraceOption = None,
    load: LoadOption = None,
    seconds: Annotated[float, typer.Option(help="Training time of all seeds together.")] = TRAINING_S,
    decisions: DecisionsOption = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of training seeds; as many run in parallel as there are cores.")
    ] = TRAINING_SEEDS,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter of the algorithm; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the checkpoint in DIR.")] = False,
) -> None:
    """Train a learner on a scenario. DIR then holds a policy folder per seed and the learning curve."""
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.variants import with_overrides
    from edgebrush.study.train import train_policies

    from .console import progress_bars

    loaded = with_overrides(load_scenario(scenario), trace, load)
    settings = dict(parse_setting(each) for each in set_ or ())
    with progress_bars() as progress:
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


def parse_setting(setting: str) -> tuple[str, str]:
    """Name and value of ``name=value``. Raises ``UserError``."""
    name, equals, value = setting.partition("=")
    if not (name and equals and value):
        raise UserError(f"--set {setting}: must be NAME=VALUE, as in --set learning_rate=1e-3")
    return name, value
