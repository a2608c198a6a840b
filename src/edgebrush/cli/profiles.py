"""`edgebrush profiles`: what each model costs and yields on its hardware, as a table and as a picture."""

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
    help="Show what the models cost and yield: seconds, joules and quality, each figure with its source.",
    epilog="edgebrush profiles --plot profiles.png\n\nedgebrush profiles show sdxl-a100",
)


@app.callback(invoke_without_command=True)
def profiles(
    context: typer.Context,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the catalogue to this .png, .pdf or .svg.")
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
        from edgebrush.profiles.plot import save_picture

        save_picture(catalogue, plot)  # first, so that a place that cannot be written is told at once

    notes = assumptions(catalogue)
    console = Console(highlight=False)
    for table in (heavy_table(heavy, notes), light_table(light, notes), quality_table(heavy + light, notes)):
        console.print(table, "", sep="\n")
    console.print("Assumed, not measured:")
    for note, letter in notes.items():
        console.print(f"[yellow]{letter}[/yellow] {note}")
    console.print("[dim]`edgebrush profiles show NAME` prints a profile with the sources of its figures.[/dim]")
    if plot is not None:
        console.print(f"picture: {plot}")


@app.command()
def show(profile: Annotated[str, typer.Argument(metavar="PROFILE", help="A name or a .json file.")]) -> None:
    """Print a profile as JSON, each block with its source: `show sdxl-a100 > mine.json` starts your own."""
    from edgebrush.profiles.catalogue import load_profile

    typer.echo(load_profile(profile).model_dump_json(indent=2))


def heavy_table(profiles: Sequence[Profile], notes: dict[str, str]) -> Table:
    """What a denoising round costs at a base station, alone and in a batch, and what a task costs once."""
    table = plain_table(
        f"Heavy models: seconds of a round and joules of a step and image, alone and in a batch of {BATCH}",
        ("s", f"s in {BATCH}", "J", f"J in {BATCH}", "fixed s", "fixed J", "fit"),
    )
    for profile in profiles:
        compute, energy = profile.compute, profile.energy
        seconds = [f"{compute.round_s(batch):.3f}" for batch in (1, BATCH)]
        joules = [f"{energy.round_j(batch) / batch:.2f}" for batch in (1, BATCH)]
        marks = marked(notes, compute.assumption, energy.assumption)
        table.add_row(profile.name, *seconds, *joules, *fixed(profile), cost_fit(profile), marks)
    return table


def light_table(profiles: Sequence[Profile], notes: dict[str, str]) -> Table:
    """What a denoising step costs on a phone, and what a task costs once."""
    table = plain_table("Light models: a step on a phone", ("s", "J", "fixed s", "fixed J"))
    for profile in profiles:
        step = (f"{profile.compute.round_s(1):.3f}", f"{profile.energy.round_j(1):.2f}")
        marks = marked(notes, profile.compute.assumption, profile.energy.assumption)
        table.add_row(profile.name, *step, *fixed(profile), marks)
    return table


def quality_table(profiles: Sequence[Profile], notes: dict[str, str]) -> Table:
    """Quality after so many steps, the ceiling, and how well the curve fits the published points."""
    table = plain_table("Quality after so many steps", (*(f"Q({k})" for k in STEPS), "ceiling", "RMSE"))
    for profile in profiles:
        quality = profile.quality
        values = [f"{value:.3f}" for value in (*quality.at(STEPS), quality.ceiling, quality.error)]
        table.add_row(profile.name, *values, marked(notes, quality.assumption))
    return table


def plain_table(title: str, headers: Sequence[str]) -> Table:
    """A borderless table: the profile's name, the figures, the marks of what is assumed."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("profile", style="cyan", no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("", style="yellow", no_wrap=True)
    return table


def fixed(profile: Profile) -> tuple[str, str]:
    """Seconds and joules that a task takes once, whatever its steps."""
    return f"{profile.compute.encode_s + profile.compute.decode_s:.2f}", f"{profile.energy.fixed_j:.1f}"


def cost_fit(profile: Profile) -> str:
    """How well seconds are affine in the batch, as far as the source says."""
    compute = profile.compute
    if compute.error is not None:
        return f"±{compute.error:.1%}"
    return "" if compute.r_squared is None else f"R² {compute.r_squared:g}"


def assumptions(profiles: Sequence[Profile]) -> dict[str, str]:
    """Every assumption in the profiles, with a letter to mark it by."""
    texts = [
        text
        for profile in profiles
        for block in (profile.compute, profile.energy, profile.quality)
        for text in clauses(block.assumption)
    ]
    return {text: chr(ord("a") + number) for number, text in enumerate(dict.fromkeys(texts))}


def marked(notes: dict[str, str], *assumed: str) -> str:
    """The letters of these assumptions."""
    return " ".join(sorted(notes[text] for assumption in assumed for text in clauses(assumption)))


def clauses(assumption: str) -> list[str]:
    return [text.strip() for text in assumption.split(";") if text.strip()]
