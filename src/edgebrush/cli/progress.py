"""What the long verbs show: progress bars while they work, the table and the folder when they are done."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from edgebrush.evaluation.run_folder import Run
    from edgebrush.scenario.schema import Scenario


@contextmanager
def bars() -> Iterator[Callable[[str, float, str], None]]:
    """A bar for each phase that reports itself as (phase, share done, note); in a log, lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
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

        def hear(phase: str, share: float, note: str) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=1.0, note=note)
            progress.update(tasks[phase], completed=share, note=note)

        yield hear


def _lines(console: Console) -> Callable[[str, float, str], None]:
    """A line with the time when a phase starts, and at every further tenth of it."""
    told: dict[str, int] = {}

    def hear(phase: str, share: float, note: str) -> None:
        if (tenths := int(10 * share)) > told.get(phase, -1):
            told[phase] = tenths
            line = f"{datetime.now():%H:%M:%S} {phase} {10 * tenths}% {note}"
            console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)

    return hear


def show(run: Run, folder: Path) -> None:
    """The table of all policies, what it says, and where the report lies."""
    from edgebrush.report.rendering import REPORT, console_table
    from edgebrush.report.text import headline

    console = Console()
    console.print(console_table(run), "", headline(run), sep="\n", highlight=False)
    console.print(f"report: {folder / REPORT}", highlight=False, soft_wrap=True)


def default_folder(scenario: Scenario) -> Path:
    return Path("runs") / f"{scenario.name}-{datetime.now():%Y-%m-%d-%H%M%S}"


def command_line() -> str:
    """The command as the user gave it."""
    return shlex.join(["edgebrush", *sys.argv[1:]])
