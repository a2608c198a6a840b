"""`edgebrush evaluate`: evaluate rules and trained policies on held-out episodes."""

from __future__ import annotations

from typing import Annotated

import typer

from .completion import complete_policy
from .options import (
    OWN_CODE,
    EpisodesOption,
    LoadOption,
    OutOption,
    OverwriteOption,
    ScenarioOption,
    TasksOption,
    TraceOption,
)

EPILOG = """\
edgebrush evaluate priced-greedy selfish-greedy                    two rules on campus

edgebrush evaluate trained/seed-1 trained/seed-2 priced-greedy --scenario mine.yaml    two seeds of one learner, a rule

edgebrush evaluate my_module:MyPolicy:weights.npz priced-greedy    a class of your own, with an argument
"""


def evaluate(
    policies: Annotated[
        list[str],
        typer.Argument(
            metavar="POLICY...",
            help=f"Names of rules, folders of trained policies; {OWN_CODE}",
            autocompletion=complete_policy,
        ),
    ],
    scenario: ScenarioOption = "campus",
    trace: TraceOption = None,
    load: LoadOption = None,
    out: OutOption = None,
    episodes: EpisodesOption = None,
    tasks_csv: TasksOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Evaluate rules and trained policies on the same held-out episodes; write a run folder with a report."""
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.variants import with_overrides
    from edgebrush.study.compare import evaluate as run_evaluation

    from .console import command_line, default_run_folder, print_summary, progress_bars

    loaded = with_overrides(load_scenario(scenario), trace, load)
    folder = out or default_run_folder(loaded)
    with progress_bars() as progress:
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
    print_summary(run, folder)
