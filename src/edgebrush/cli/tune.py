"""`edgebrush tune`: search the rules' numbers for a scenario and keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import LoadOption, ScenarioArgument, TraceOption

EPILOG = """\
edgebrush tune mine.yaml --out rules.json

edgebrush tune campus --evaluations 5000 --episodes 64 --out campus.rules.json    as the preset's were found
"""


def tune(
    scenario: ScenarioArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the numbers go (.json).")],
    evaluations: Annotated[int, typer.Option(min=16, help="Of the priced greedy rule; campus ships with 5000.")] = 640,
    episodes: Annotated[int, typer.Option(min=2, help="Of each evaluation; campus ships with 64.")] = 16,
    trace: TraceOption = None,
    load: LoadOption = None,
) -> None:
    """Tune every rule's numbers by an evolution strategy (CMA-ES) on tuning seeds; write them as JSON."""
    from edgebrush.files import check_writable, write_text
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.variants import asked_for
    from edgebrush.tuning.cmaes import Budget
    from edgebrush.tuning.rules import log_csv, rules_json, tune_all

    from .progress import bars, command_line

    loaded = asked_for(load_scenario(scenario), trace, load)
    check_writable(out.parent)
    budget = Budget(evaluations, episodes)
    with bars() as progress:
        tuned = tune_all(loaded, budget, progress)
    write_text(out, rules_json(loaded, tuned, command_line()))
    write_text(out.with_suffix(".csv"), log_csv(tuned))
    for each in tuned:
        typer.echo(f"{each.rule:<18} {each.cost:.4f}   ({each.budget})")
    typer.echo(f"rules: {out}, log: {out.with_suffix('.csv')}")
