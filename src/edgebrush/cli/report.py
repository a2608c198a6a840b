"""`edgebrush report`: the figures and the page of a run, drawn again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "edgebrush report runs/campus-2026-11-24-120000"


def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]) -> None:
    """Draw the figures and the report of a run again, from what its folder holds."""
    from edgebrush.report.rendering import render_again

    from .progress import show

    show(render_again(run), run)
