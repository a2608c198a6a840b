"""Terminal output of the long verbs: Rich progress bars (lines when logged), and a summary at the end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from edgebrush.progress import ProgressCallback

if TYPE_CHECKING:
    from edgebrush.evaluation.run_folder import Run
    from edgebrush.scenario.schema import Scenario


@contextmanager
def progress_bars() -> Iterator[ProgressCallback]:
    """A progress bar for each phase that is reported; where stderr is not a terminal, lines instead."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _log_lines(console)
        return
    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def update(phase: str, share: float, note: str) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=1.0, note=note)
            progress.update(tasks[phase], completed=share, note=note)

        yield update


def _log_lines(console: Console) -> ProgressCallback:
    """Prints a line with the time when a phase starts, and at every further tenth of it."""
    printed: dict[str, int] = {}

    def update(phase: str, share: float, note: str) -> None:
        if (tenths := int(10 * share)) > printed.get(phase, -1):
            printed[phase] = tenths
            line = f"{datetime.now():%H:%M:%S} {phase} {10 * tenths}% {note}"
            console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)

    return update


def print_summary(run: Run, folder: Path) -> None:
    """The table of all policies, the main finding, and the path of the report."""
    from edgebrush.report.rendering import REPORT, console_table
    from edgebrush.report.text import headline

    console = Console()
    console.print(console_table(run), "", headline(run), sep="\n", highlight=False)
    console.print(f"report: {folder / REPORT}", highlight=False, soft_wrap=True)


def default_run_folder(scenario: Scenario) -> Path:
    """``runs/<scenario>-<time>``."""
    return Path("runs") / f"{scenario.name}-{datetime.now():%Y-%m-%d-%H%M%S}"


def command_line() -> str:
    """The command that is running, quoted for a shell; reports show it."""
    return shlex.join(["edgebrush", *sys.argv[1:]])
