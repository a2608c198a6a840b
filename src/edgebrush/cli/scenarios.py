"""`edgebrush scenarios`: list the presets, print one to start from, check one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgebrush.scenario.schema import Scenario

app = typer.Typer(
    help="List the worlds that ship with edgebrush; start from one; check your own.",
    epilog="edgebrush scenarios show campus > mine.yaml\n\nedgebrush scenarios check mine.yaml",
)

ScenarioArgument = Annotated[str, typer.Argument(metavar="SCENARIO", help="A preset's name or a .yaml file.")]


@app.callback(invoke_without_command=True)
def scenarios(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_presets()


@app.command()
def show(scenario: ScenarioArgument) -> None:
    """Print a scenario's YAML file, comments and all: `show campus > mine.yaml` starts your own."""
    from edgebrush.scenario.load import read_yaml, scenario_path

    typer.echo(read_yaml(scenario_path(scenario)), nl=False)


@app.command()
def check(scenario: ScenarioArgument) -> None:
    """Validate a scenario, its profiles and its trace; say how loaded it is."""
    from edgebrush.scenario.load import load_scenario
    from edgebrush.sim.tables import build_params

    loaded = load_scenario(scenario)
    build_params(loaded)  # reads the trace, too
    typer.echo(f"{scenario}: fine; {sizes(loaded)}, {arrivals(loaded)}")


def list_presets() -> None:
    """A table of the presets, the default first."""
    from rich.console import Console
    from rich.table import Table

    from edgebrush.scenario.load import load_scenario, preset_names
    from edgebrush.scenario.capacity import offered_load

    table = Table(
        title="Scenarios",
        caption="load: 1 = all that the BSs can do at 15 steps with full batches; the UEs do the rest.\n"
        "`edgebrush scenarios show NAME > mine.yaml` starts your own.",
        caption_justify="left",
        show_lines=True,
    )
    table.add_column("name", style="bold cyan", no_wrap=True)
    table.add_column("UEs", justify="right")
    table.add_column("BSs", justify="right")
    table.add_column("load", justify="right")
    table.add_column("arrivals")
    table.add_column("what it is", ratio=1)
    for name in preset_names():
        scenario = load_scenario(name)
        table.add_row(
            name,
            f"{scenario.ue_count:,}",
            f"{scenario.bs_count:,}",
            f"{offered_load(scenario):.2f}",
            arrivals(scenario),
            f"[bold]{scenario.title}[/bold]\n{' '.join(scenario.description.split())}".rstrip(),
        )
    Console().print(table)


def sizes(scenario: Scenario) -> str:
    from edgebrush.scenario.capacity import offered_load

    return f"{scenario.ue_count:,} UEs, {scenario.bs_count:,} BSs, offered load {offered_load(scenario):.2f}"


def arrivals(scenario: Scenario) -> str:
    return f"{scenario.arrivals.kind}, {scenario.task_rate_hz:.3g} tasks/s"
