"""`edgebrush compare`: tune, train, compare and report; the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
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

edgebrush compare mine.yaml --seconds 600           your own world, trained longer

edgebrush compare --trace requests.csv --load 1.5   a real request trace
"""


def compare(
    scenario: ScenarioArgument = "campus",
    trace: TraceOption = None,
    load: LoadOption = None,
    out: OutOption = None,
    seeds: Annotated[
        int | None, typer.Option(help="Trainings of MAPPO; 0 compares the rules alone.", show_default="4")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Of training, for all seeds together.", show_default="220")
    ] = None,
    decisions: DecisionsOption = None,
    episodes: EpisodesOption = None,
    tasks_csv: TasksOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Tune the rules, train MAPPO, play all on the same fresh episodes; write a run folder with a report."""
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.variants import asked_for
    from edgebrush.study.compare import compare as run_comparison
    from edgebrush.study.train import TRAINING_S, TRAINING_SEEDS

    from .progress import bars, command_line, default_folder, show

    loaded = asked_for(load_scenario(scenario), trace, load)
    folder: Path = out or default_folder(loaded)
    with bars() as progress:
        run = run_comparison(
            loaded,
            folder,
            seeds=TRAINING_SEEDS if seeds is None else seeds,
            seconds=TRAINING_S if seconds is None else seconds,
            decisions=decisions,
            episodes=episodes,
            tasks_csv=tasks_csv,
            overwrite=overwrite,
            command=command_line(),
            progress=progress,
        )
    show(run, folder)
