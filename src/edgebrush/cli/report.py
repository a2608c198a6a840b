"""`edgebrush report`: render the report of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "edgebrush report runs/campus-2026-11-24-120000    after an update of edgebrush"


def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]) -> None:
    """Render the figures and the report of a run again, from the data in its folder."""
    from edgebrush.report.rendering import render_again

    from .console import print_summary

    print_summary(render_again(run), run)
