"""`edgebrush tune`: search the rules' numbers for a scenario and keep them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgebrush.cli.options import LoadOption, ScenarioArgument, TraceOption

EPILOG = "edgebrush tune mine.yaml --out rules.json"


def tune(
    scenario: ScenarioArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the numbers go (.json).")],
    full: Annotated[
        bool, typer.Option("--full", help="The budget of the presets' numbers, hours on 2 cores.")
    ] = False,
    trace: TraceOption = None,
    load: LoadOption = None,
) -> None:
    """Tune every rule's numbers by an evolution strategy (CMA-ES) on tuning seeds; write them as JSON."""
    from edgebrush.cli.progress import bars, command_line
    from edgebrush.evaluation.compare import asked_for
    from edgebrush.evaluation.runs import check_writable, write_whole
    from edgebrush.evaluation.tuning import FULL, QUICK, rules_json, tuned_rules
    from edgebrush.scenario.load import load_scenario

    loaded = asked_for(load_scenario(scenario), trace, load)
    check_writable(out.parent)
    budget = FULL if full else QUICK
    with bars() as progress:
        rules = tuned_rules(loaded, budget, lambda rule, share: progress("tuning the rules", share, rule))
    write_whole(out, rules_json(rules, budget, command_line()))
    typer.echo(f"rules: {out}")
