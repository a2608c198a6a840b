"""`edgebrush polish`: tune a trained actor's prices as a rule's are tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import LoadOption, ScenarioOption, TraceOption

EPILOG = """\
edgebrush polish trained/seed-1 --scenario mine.yaml --out polished

edgebrush evaluate polished trained/seed-1 priced-greedy --scenario mine.yaml    was it worth it?
"""


def polish(
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="The folder of a trained policy.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The polished policy's folder, not there yet.")],
    scenario: ScenarioOption = "campus",
    evaluations: Annotated[int, typer.Option(min=16, help="Of other prices, 16 a generation.")] = 640,
    episodes: Annotated[int, typer.Option(min=2, help="Of each evaluation.")] = 64,
    trace: TraceOption = None,
    load: LoadOption = None,
) -> None:
    """Tune a trained actor's prices and biases by CMA-ES on tuning seeds, deployed as it will be used."""
    from edgebrush.errors import UserError
    from edgebrush.files import check_writable
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.variants import asked_for
    from edgebrush.tuning.cmaes import Budget
    from edgebrush.tuning.polish import polish as run

    from .progress import bars, command_line

    loaded = asked_for(load_scenario(scenario), trace, load)
    if out.exists():
        raise UserError(f"out = {str(out)!r}: is there already; give a new folder")
    check_writable(out.parent)
    with bars() as progress:
        costs = run(
            loaded,
            policy,
            out,
            Budget(evaluations, episodes),
            command_line(),
            lambda share: progress("polishing", share, policy.name),
        )
    typer.echo(f"cost per task on validation episodes: {costs[0]:.4f} before, {costs[1]:.4f} after")
    typer.echo(f"policy, with the search's log: {out}")
