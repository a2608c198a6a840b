"""Tasks from a CSV file instead of clients: each row is submitted to the agent at its time."""

from __future__ import annotations

import asyncio
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebrush.api.schema import MAX_SEED
from edgebrush.errors import UserError
from edgebrush.journal.records import Task, TaskResult
from edgebrush.scenario.schema import Scenario

from .agent import Agent

COLUMNS = ("at_s", "prompt", "request", "seed")  # required; deadline_s is optional


@dataclass(frozen=True)
class TaskFileRow:
    """A task and its arrival time in seconds from the start."""

    at_s: float
    task: Task


def read_task_file(path: Path, scenario: Scenario) -> list[TaskFileRow]:
    """The rows of a CSV file, sorted by time. Raises ``UserError`` where a row is invalid.

    A task's id is its row number, so an agent with the same journal does not generate it again.
    """
    kinds = [kind.name for kind in scenario.requests]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = set(COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise UserError(f"{path}: the header lacks {', '.join(sorted(missing))}; it needs {', '.join(COLUMNS)}")
            rows = [parse_row(row, f"row-{number}", kinds) for number, row in enumerate(reader, 1)]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"tasks = {str(path)!r}: cannot be read: {error}") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: row {reader.line_num - 1}: {error}") from None
    return sorted(rows, key=lambda row: row.at_s)


def parse_row(row: dict[str, str], task_id: str, kinds: Sequence[str]) -> TaskFileRow:
    """One row. Raises ``ValueError`` where it is invalid."""
    at_s, seed = float(row["at_s"]), int(row["seed"])
    deadline_s = float(row["deadline_s"]) if row.get("deadline_s") else None
    if not 0 <= at_s < math.inf or not 0 <= seed <= MAX_SEED or not (deadline_s is None or 0 < deadline_s < math.inf):
        raise ValueError(f"at_s, seed and deadline_s must be positive numbers, not {at_s:g}, {seed}, {deadline_s}")
    if row["request"] not in kinds:
        raise ValueError(f"request = {row['request']!r}: the scenario has {', '.join(kinds)}")
    return TaskFileRow(at_s, Task(task_id, row["prompt"], row["request"], seed, deadline_s=deadline_s))


async def run_task_file(agent: Agent, rows: Sequence[TaskFileRow]) -> list[TaskResult]:
    """Start the agent, submit each task at its time, wait for all, and stop the agent. Results in the rows' order."""
    await agent.start()
    try:
        start = agent.clock()
        tasks = []
        for row in rows:
            await asyncio.sleep(max(0.0, start + row.at_s - agent.clock()))
            tasks.append(asyncio.create_task(agent.generate(row.task)))
        return await asyncio.gather(*tasks)
    finally:
        await agent.stop()
