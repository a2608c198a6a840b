"""`edgebrush polish`: tune the prices of a trained actor by CMA-ES."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import LoadOption, ScenarioOption, TraceOption

EPILOG = """\
edgebrush polish trained/seed-1 --scenario mine.yaml --out polished

edgebrush evaluate polished trained/seed-1 priced-greedy --scenario mine.yaml    did it help?
"""


def polish(
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="Folder of a trained policy.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder for the polished policy.")],
    scenario: ScenarioOption = "campus",
    evaluations: Annotated[int, typer.Option(min=16, help="Evaluations, 16 per generation.")] = 640,
    episodes: Annotated[int, typer.Option(min=2, help="Episodes per evaluation.")] = 64,
    trace: TraceOption = None,
    load: LoadOption = None,
) -> None:
    """Tune the prices and biases of a trained actor by CMA-ES on tuning episodes."""
    from edgebrush.errors import UserError
    from edgebrush.files import check_writable
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.variants import with_overrides
    from edgebrush.tuning.cmaes import Budget
    from edgebrush.tuning.polish import polish as run_polish

    from .console import command_line, progress_bars

    loaded = with_overrides(load_scenario(scenario), trace, load)
    if out.exists():
        raise UserError(f"out = {str(out)!r}: already exists; give a new folder")
    check_writable(out.parent)
    with progress_bars() as progress:
        costs = run_polish(
            loaded,
            policy,
            out,
            Budget(evaluations, episodes),
            command_line(),
            lambda share: progress("polishing", share, policy.name),
        )
    typer.echo(f"cost per task on validation episodes: {costs[0]:.4f} before, {costs[1]:.4f} after")
    typer.echo(f"policy, with the log of the search: {out}")
