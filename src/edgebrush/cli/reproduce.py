"""`edgebrush reproduce`: the whole study, as figures and tables; goes on where it was interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .options import JobsOption, ScenarioArgument

EPILOG = """\
edgebrush reproduce --quick                          every figure in minutes, too little training to conclude from

edgebrush reproduce --out study                      the full study of campus: hours; again after an interruption

edgebrush reproduce --only ablations --algorithm mappo --out study    one figure
"""


def reproduce(
    scenario: ScenarioArgument = "campus",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The study's folder, new or begun.", show_default="runs/study-<scenario>"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few seeds, decisions and points: does all of it work?")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="FIGURE", help="This figure and what it needs; repeatable.")
    ] = None,
    algorithm: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="This learner, besides mappo; repeatable.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Trainings of each learner.", show_default="10, quick 2")
    ] = None,
    decisions: Annotated[
        int | None, typer.Option(min=1, help="Of each training.", show_default="1,000,000, quick 200,000")
    ] = None,
    jobs: JobsOption = None,
) -> None:
    """Train every learner, tune every rule, on a scenario and around it; draw the study's figures and tables."""
    from edgebrush.jobs.executor import default_workers
    from edgebrush.scenario.load import load_scenario
    from edgebrush.study.findings import QUICK_PLAN, Plan
    from edgebrush.study.reproduce import reproduce as run_study

    from .progress import bars, command_line

    loaded = load_scenario(scenario)
    plan = QUICK_PLAN if quick else Plan()
    if seeds is not None:
        plan = replace(plan, seeds=seeds, point_seeds=min(seeds, plan.point_seeds))
    if decisions is not None:
        plan = replace(plan, decisions=decisions, point_decisions=min(decisions, plan.point_decisions))
    folder = out or Path("runs") / f"study-{loaded.name}{'-quick' * quick}"
    with bars() as progress:
        found = run_study(
            loaded,
            folder,
            plan,
            figures=only or (),
            algorithms=algorithm or (),
            workers=jobs or default_workers(),
            command=command_line(),
            progress=progress,
        )
    costs = {name: figures["cost"] for name, figures in found.results["policies"].items()}
    for name, cost in sorted(costs.items(), key=lambda item: item[1]["mean"]):
        typer.echo(f"{name:<22} {cost['mean']:.4f}   [{cost['ci_low']:.4f}, {cost['ci_high']:.4f}]")
    typer.echo(f"study: {folder / 'study.html'}, figures with their CSV: {folder / 'figures'}")
