"""`edgebrush evaluate`: play rules and trained policies on held-out episodes."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import (
    EpisodesOption,
    LoadOption,
    OutOption,
    OverwriteOption,
    ScenarioOption,
    TasksOption,
    TraceOption,
)

EPILOG = "edgebrush evaluate runs/mine/policies/mappo/seed-1 priced-greedy selfish-greedy --scenario campus"


def evaluate(
    policies: Annotated[
        list[str], typer.Argument(metavar="POLICY...", help="Folders of trained policies, names of rules.")
    ],
    scenario: ScenarioOption = "campus",
    trace: TraceOption = None,
    load: LoadOption = None,
    out: OutOption = None,
    episodes: EpisodesOption = None,
    tasks_csv: TasksOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Play rules and trained policies on the same held-out episodes; write a run folder with a report."""
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.variants import asked_for
    from edgebrush.study.compare import evaluate as run_evaluation

    from .progress import bars, command_line, default_folder, show

    loaded = asked_for(load_scenario(scenario), trace, load)
    folder = out or default_folder(loaded)
    with bars() as progress:
        run = run_evaluation(
            loaded,
            policies,
            folder,
            episodes=episodes,
            tasks_csv=tasks_csv,
            overwrite=overwrite,
            command=command_line(),
            progress=progress,
        )
    show(run, folder)
