"""`edgebrush train`: train MAPPO and keep its policies; goes on where it was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgebrush.cli.options import LoadOption, ScenarioArgument, TraceOption

EPILOG = """\
edgebrush train campus --out trained --seconds 600

edgebrush train campus --out trained --resume    go on after an interruption
"""


def train(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where policies, curve and checkpoint go.")],
    scenario: ScenarioArgument = "campus",
    trace: TraceOption = None,
    load: LoadOption = None,
    seconds: Annotated[float, typer.Option(help="Of training, for all seeds together.")] = 220.0,
    updates: Annotated[
        int | None, typer.Option(help="End the training after so many updates instead.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings, as many at once as there are cores.")] = 4,
    plain: Annotated[
        bool, typer.Option("--plain", help="Plain MAPPO: no copies of episodes with common arrivals.")
    ] = False,
    own_prices: Annotated[
        bool, typer.Option("--own-prices", help="Start from no prices instead of the tuned rule's.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in DIR.")] = False,
) -> None:
    """Train MAPPO on a scenario; DIR then holds a policy folder for each seed, and the learning curve."""
    from edgebrush.cli.progress import bars
    from edgebrush.evaluation.compare import asked_for, train_mappo
    from edgebrush.scenario.load import load_scenario

    loaded = asked_for(load_scenario(scenario), trace, load)
    with bars() as progress:
        folders = train_mappo(
            loaded,
            out,
            seeds=seeds,
            seconds=seconds,
            updates=updates,
            plain=plain,
            own_prices=own_prices,
            resume=resume,
            progress=progress,
        )
    for folder in folders:
        typer.echo(f"policy: {folder}")
