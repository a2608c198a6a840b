"""`edgebrush reproduce`: run the whole study; an interrupted study resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .completion import complete_algorithm
from .options import JobsOption, RayOption, ScenarioArgument

EPILOG = """\
edgebrush reproduce --quick                          every figure in minutes, with too little training to conclude from

edgebrush reproduce --out study                      the full study of campus, hours; repeat it to resume

edgebrush reproduce --only ablations --algorithm mappo --out study    one figure

edgebrush reproduce --out study --ray auto           its jobs on the Ray cluster that this machine is part of
"""


def reproduce(
    scenario: ScenarioArgument = "campus",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the study; an existing one is resumed.", show_default="runs/study-<scenario>"
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small study that checks that everything works.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="FIGURE", help="Only this figure; repeatable.", show_default="all")
    ] = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this learner (and mappo); repeatable.",
            show_default="all",
            autocompletion=complete_algorithm,
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Training seeds per learner.", show_default="10, quick 2")
    ] = None,
    decisions: Annotated[
        int | None, typer.Option(min=1, help="Decisions per training.", show_default="1,000,000, quick 200,000")
    ] = None,
    jobs: JobsOption = None,
    ray: RayOption = None,
) -> None:
    """Train every learner and tune every rule on a scenario and its variations; write figures and tables."""
    from edgebrush.scenario.load import load_scenario
    from edgebrush.study.findings import QUICK_PLAN, Plan
    from edgebrush.study.reproduce import reproduce as run_study

    from .console import command_line, progress_bars
    from .executors import exit_for, open_executor

    loaded = load_scenario(scenario)
    plan = QUICK_PLAN if quick else Plan()
    if seeds is not None:
        plan = replace(plan, seeds=seeds, point_seeds=min(seeds, plan.point_seeds))
    if decisions is not None:
        plan = replace(plan, decisions=decisions, point_decisions=min(decisions, plan.point_decisions))
    folder = out or Path("runs") / f"study-{loaded.name}{'-quick' * quick}"
    with open_executor(ray, jobs) as executor, progress_bars() as progress:
        found = run_study(
            loaded,
            folder,
            plan,
            figures=only or (),
            algorithms=algorithm or (),
            executor=executor,
            command=command_line(),
            progress=progress,
        )
    costs = {name: figures["cost"] for name, figures in found.results.get("policies", {}).items()}
    for name, cost in sorted(costs.items(), key=lambda item: item[1]["mean"]):
        typer.echo(f"{name:<22} {cost['mean']:.4f}   [{cost['ci_low']:.4f}, {cost['ci_high']:.4f}]")
    typer.echo(f"study: {folder / 'study.html'}, figures with their CSV: {folder / 'figures'}")
    exit_for(found.failures)
