"""`edgebrush compare`: tune the rules, train MAPPO, evaluate all policies, write a report."""

from __future__ import annotations

from typing import Annotated

import typer

from edgebrush.study import TRAINING_S, TRAINING_SEEDS

from .options import (
    OWN_CODE,
    DecisionsOption,
    EpisodesOption,
    LoadOption,
    OutOption,
    OverwriteOption,
    ScenarioArgument,
    TasksOption,
    TraceOption,
)

EPILOG = """\
edgebrush compare                                   the preset campus, 6 minutes on 2 cores

edgebrush compare mine.yaml --seconds 600           your own scenario, with longer training

edgebrush compare --trace requests.csv --load 1.5   arrivals from a request trace, at 1.5 times the capacity

edgebrush compare fitted.yaml --policy old=runs/fleet/policies/mappo/seed-1    an older MAPPO beside the new one

edgebrush compare --policy my_module:MyPolicy       a policy of your own in the same table

edgebrush compare --seeds 0                         the rules alone, no training
"""


def compare(
    scenario: ScenarioArgument = "campus",
    trace: TraceOption = None,
    load: LoadOption = None,
    out: OutOption = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]POLICY",
            help=f"Evaluate this policy as well, repeatable: a folder of a trained policy; {OWN_CODE}",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Training seeds of MAPPO; 0 compares the rules alone.")] = TRAINING_SEEDS,
    seconds: Annotated[float, typer.Option(help="Training time of all seeds together.")] = TRAINING_S,
    decisions: DecisionsOption = None,
    episodes: EpisodesOption = None,
    tasks_csv: TasksOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Compare MAPPO with every rule: tune, train, evaluate on the same held-out episodes, write a report."""
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.variants import with_overrides
    from edgebrush.study.compare import compare as run_comparison

    from .console import command_line, default_run_folder, print_summary, progress_bars

    loaded = with_overrides(load_scenario(scenario), trace, load)
    folder = out or default_run_folder(loaded)
    with progress_bars() as progress:
        run = run_comparison(
            loaded,
            folder,
            policies=policy or (),
            seeds=seeds,
            seconds=seconds,
            decisions=decisions,
            episodes=episodes,
            tasks_csv=tasks_csv,
            overwrite=overwrite,
            command=command_line(),
            progress=progress,
        )
    print_summary(run, folder)
