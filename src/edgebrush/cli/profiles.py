"""`edgebrush profiles`: the cost and quality of every model on its hardware, as tables and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from edgebrush.profiles.schema import Profile

STEPS = (4, 8, 15, 30)
BATCH = 8

app = typer.Typer(
    help="Show the cost and quality of the models: seconds, joules, image quality; every number has a source.",
    epilog="edgebrush profiles --plot profiles.png\n\nedgebrush profiles show sdxl-a100",
)


@app.callback(invoke_without_command=True)
def profiles(
    context: typer.Context,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the catalogue to a .png, .pdf or .svg.")
    ] = None,
) -> None:
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from edgebrush.profiles.catalogue import catalogue_names, load_profile

    catalogue = [load_profile(name) for name in catalogue_names()]
    heavy = [profile for profile in catalogue if profile.role == "heavy"]
    light = [profile for profile in catalogue if profile.role == "light"]
    if plot is not None:
        from edgebrush.profiles.plot import save_catalogue_figure

        save_catalogue_figure(catalogue, plot)  # before the tables: fail early if the file cannot be written

    notes = assumptions(catalogue)
    console = Console(highlight=False)
    for table in (heavy_table(heavy, notes), light_table(light, notes), quality_table(heavy + light, notes)):
        console.print(table, "", sep="\n")
    console.print("Assumed, not measured:")
    for note, letter in notes.items():
        console.print(f"[yellow]{letter}[/yellow] {note}")
    console.print("[dim]`edgebrush profiles show NAME` prints one profile with its sources.[/dim]")
    if plot is not None:
        console.print(f"figure: {plot}")


@app.command()
def show(
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A name or a .json file.")],
) -> None:
    """Print a profile as JSON with its sources. `show sdxl-a100 > mine.json` is a start for your own."""
    from edgebrush.profiles.catalogue import load_profile

    typer.echo(load_profile(profile).model_dump_json(indent=2))


def heavy_table(profiles: Sequence[Profile], notes: dict[str, str]) -> Table:
    """Build the table of the heavy models: cost of a round, alone and in a batch, and fixed cost of a task."""
    table = new_table(
        f"Heavy models: seconds per round and joules per step and image, alone and in a batch of {BATCH}",
        ("s", f"s in {BATCH}", "J", f"J in {BATCH}", "fixed s", "fixed J", "fit"),
    )
    for profile in profiles:
        compute, energy = profile.compute, profile.energy
        seconds = [f"{compute.round_s(batch):.3f}" for batch in (1, BATCH)]
        joules = [f"{energy.round_j(batch) / batch:.2f}" for batch in (1, BATCH)]
        marks = marks_of(notes, compute.assumption, energy.assumption)
        table.add_row(profile.name, *seconds, *joules, *fixed_cost(profile), cost_fit(profile), marks)
    return table


def light_table(profiles: Sequence[Profile], notes: dict[str, str]) -> Table:
    """Build the table of the light models: cost of a step, and fixed cost of a task."""
    table = new_table("Light models: seconds and joules per step", ("s", "J", "fixed s", "fixed J"))
    for profile in profiles:
        step = (f"{profile.compute.round_s(1):.3f}", f"{profile.energy.round_j(1):.2f}")
        marks = marks_of(notes, profile.compute.assumption, profile.energy.assumption)
        table.add_row(profile.name, *step, *fixed_cost(profile), marks)
    return table


def quality_table(profiles: Sequence[Profile], notes: dict[str, str]) -> Table:
    """Build the table of quality by step count, with the ceiling and the RMSE of the fit."""
    table = new_table("Quality Q(k) after k steps", (*(f"Q({k})" for k in STEPS), "ceiling", "RMSE"))
    for profile in profiles:
        quality = profile.quality
        values = [f"{value:.3f}" for value in (*quality.at(STEPS), quality.ceiling, quality.error)]
        table.add_row(profile.name, *values, marks_of(notes, quality.assumption))
    return table


def new_table(title: str, headers: Sequence[str]) -> Table:
    """Start a table without borders: the profile's name, numbers, and marks of assumptions."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("profile", style="cyan", no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("", style="yellow", no_wrap=True)
    return table


def fixed_cost(profile: Profile) -> tuple[str, str]:
    """Format the seconds and joules that a task takes once, whatever its number of steps."""
    return f"{profile.compute.encode_s + profile.compute.decode_s:.2f}", f"{profile.energy.fixed_j:.1f}"


def cost_fit(profile: Profile) -> str:
    """Format how well an affine function fits the seconds, if the source states it."""
    compute = profile.compute
    if compute.error is not None:
        return f"±{compute.error:.1%}"
    return "" if compute.r_squared is None else f"R² {compute.r_squared:g}"


def assumptions(profiles: Sequence[Profile]) -> dict[str, str]:
    """Map every assumption in the profiles to a letter that marks it."""
    texts = [
        text
        for profile in profiles
        for block in (profile.compute, profile.energy, profile.quality)
        for text in clauses(block.assumption)
    ]
    return {text: chr(ord("a") + number) for number, text in enumerate(dict.fromkeys(texts))}


def marks_of(notes: dict[str, str], *assumed: str) -> str:
    """Return the letters of some assumptions."""
    return " ".join(sorted(notes[text] for assumption in assumed for text in clauses(assumption)))


def clauses(assumption: str) -> list[str]:
    """Split an assumption at its semicolons."""
    return [text.strip() for text in assumption.split(";") if text.strip()]
