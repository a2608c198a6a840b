"""`edgebrush scenarios`: list the presets, print one as a start, check a file, print the JSON Schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from .options import ScenarioArgument

if TYPE_CHECKING:
    from edgebrush.scenario.schema import Scenario

EPILOG = """\
edgebrush scenarios                                        a table of the presets

edgebrush scenarios show campus > mine.yaml                start your own scenario from a preset

edgebrush scenarios schema > scenario.schema.json          completion and checks for mine.yaml in editors

edgebrush scenarios check mine.yaml                        is it valid, and how loaded is it?
"""

app = typer.Typer(
    help="List the scenarios that ship with edgebrush; start your own from one, and check it.",
    epilog=EPILOG,
)


@app.callback(invoke_without_command=True)
def scenarios(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_presets()


@app.command()
def show(scenario: ScenarioArgument) -> None:
    """Print the YAML file of a scenario with its comments: `show campus > mine.yaml` starts your own."""
    from edgebrush.scenario.load import read_yaml, scenario_path

    typer.echo(read_yaml(scenario_path(scenario)), nl=False)


@app.command()
def check(scenario: ScenarioArgument) -> None:
    """Validate a scenario, its profiles and its trace; print its size and its offered load."""
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.parameters import check_usable

    loaded = load_scenario(scenario)
    check_usable(loaded)  # reads the trace as well
    typer.echo(f"{scenario}: valid; {sizes(loaded)}, {arrivals(loaded)}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of scenario files.

    Editors with the YAML language server (VS Code, Neovim, Emacs, ...) use it for completion, descriptions and checks
    of every file whose first line is `# yaml-language-server: $schema=scenario.schema.json`, as in the presets.
    """
    from edgebrush.scenario.json_schema import schema_text

    typer.echo(schema_text(), nl=False)


def list_presets() -> None:
    """Print a table of the presets, the default first, with their descriptions."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from edgebrush.scenario.capacity import offered_load
    from edgebrush.scenario.load import load_scenario
    from edgebrush.scenario.presets import preset_names

    presets = [load_scenario(name) for name in preset_names()]
    table = Table(title="Scenarios", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("name", style="cyan", no_wrap=True)
    for header in ("UEs", "BSs", "load", "tasks/s"):
        table.add_column(header, justify="right")
    table.add_column("arrivals")
    for preset in presets:
        table.add_row(
            preset.name,
            f"{preset.ue_count:,}",
            f"{preset.bs_count:,}",
            f"{offered_load(preset):.2f}",
            f"{preset.task_rate_hz:.3g}",
            preset.arrivals.kind,
        )

    console = Console()
    console.print(table, "")
    for preset in presets:
        console.print(Text.assemble((preset.name, "cyan"), f": {preset.title}"), highlight=False)
        console.print(Padding(preset.description.strip(), (0, 0, 1, 2)), highlight=False)
    console.print(
        "load: arriving tasks divided by the tasks that the BSs can finish at 15 steps with full batches; "
        "above 1 the phones must help.\n`edgebrush scenarios show NAME > mine.yaml` starts your own.",
        style="dim",
        highlight=False,
    )


def sizes(scenario: Scenario) -> str:
    from edgebrush.scenario.capacity import offered_load

    return f"{scenario.ue_count:,} UEs, {scenario.bs_count:,} BSs, offered load {offered_load(scenario):.2f}"


def arrivals(scenario: Scenario) -> str:
    return f"{scenario.arrivals.kind}, {scenario.task_rate_hz:.3g} tasks/s"
