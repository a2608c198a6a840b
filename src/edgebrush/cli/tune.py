"""`edgebrush tune`: tune the parameters of the rules for a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import LoadOption, ScenarioArgument, TraceOption

EPILOG = """\
edgebrush tune mine.yaml --out mine.rules.json    beside the scenario, where the other verbs find it

edgebrush tune campus --evaluations 5000 --episodes 64 --out campus.rules.json    how the presets were tuned
"""


def tune(
    scenario: ScenarioArgument,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="File for the parameters (.json); the log goes to a .csv beside it.")
    ],
    evaluations: Annotated[
        int, typer.Option(min=16, help="Evaluations of the priced greedy rule (presets: 5000).")
    ] = 640,
    episodes: Annotated[int, typer.Option(min=2, help="Episodes per evaluation (presets: 64).")] = 16,
    trace: TraceOption = None,
    load: LoadOption = None,
) -> None:
    """Tune the parameters of every rule by CMA-ES on tuning episodes; write them as JSON."""
    from edgebrush.files import check_writable, write_text
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.variants import with_overrides
    from edgebrush.tuning.cmaes import Budget
    from edgebrush.tuning.rules import log_csv, rules_json, tune_all

    from .console import command_line, progress_bars

    loaded = with_overrides(load_scenario(scenario), trace, load)
    check_writable(out.parent)
    budget = Budget(evaluations, episodes)
    with progress_bars() as progress:
        tuned = tune_all(loaded, budget, progress)
    write_text(out, rules_json(loaded, tuned, command_line()))
    write_text(out.with_suffix(".csv"), log_csv(tuned))
    for each in tuned:
        typer.echo(f"{each.rule:<18} {each.cost:.4f}   ({each.budget})")
    typer.echo(f"rules: {out}, log: {out.with_suffix('.csv')}")
