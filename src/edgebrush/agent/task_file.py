"""Tasks from a file in place of clients: a CSV of arrivals, asked of an agent at their times."""

from __future__ import annotations

import asyncio
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebrush.errors import UserError
from edgebrush.scenario.schema import Scenario

from .agent import Agent
from .journal import Ended, Task

COLUMNS = ("at_s", "prompt", "request", "seed")  # and, where tasks have one, deadline_s
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Arrival:
    """A task and the moment, from the start, at which it comes."""

    at_s: float
    task: Task


def read_arrivals(path: Path, scenario: Scenario) -> list[Arrival]:
    """The arrivals of a CSV file, in the order of their times. Raises ``UserError`` where a row cannot be used.

    A task's id is its row, so that an agent on the same journal does not make it again.
    """
    kinds = [kind.name for kind in scenario.requests]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = set(COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise UserError(f"{path}: the header lacks {', '.join(sorted(missing))}; it needs {', '.join(COLUMNS)}")
            arrivals = [arrival_of(row, f"row-{number}", kinds) for number, row in enumerate(reader, 1)]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"tasks = {str(path)!r}: cannot be read: {error}") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: row {reader.line_num - 1}: {error}") from None
    return sorted(arrivals, key=lambda arrival: arrival.at_s)


def arrival_of(row: dict[str, str], id: str, kinds: Sequence[str]) -> Arrival:
    """One row. Raises ``ValueError`` where it cannot be used."""
    at_s, seed = float(row["at_s"]), int(row["seed"])
    deadline_s = float(row["deadline_s"]) if row.get("deadline_s") else None
    if not 0 <= at_s < math.inf or not 0 <= seed <= MAX_SEED or not (deadline_s is None or 0 < deadline_s < math.inf):
        raise ValueError(f"at_s, seed and deadline_s must be positive numbers, not {at_s:g}, {seed}, {deadline_s}")
    if row["request"] not in kinds:
        raise ValueError(f"request = {row['request']!r}: the scenario has {', '.join(kinds)}")
    return Arrival(at_s, Task(id, row["prompt"], row["request"], seed, deadline_s=deadline_s))


async def replay(agent: Agent, arrivals: Sequence[Arrival]) -> list[Ended]:
    """Start the agent, ask each task of it at its time, wait for all, and stop it. How they ended, in order."""
    await agent.start()
    try:
        start = agent.clock()
        work = []
        for arrival in arrivals:
            await asyncio.sleep(max(0.0, start + arrival.at_s - agent.clock()))
            work.append(asyncio.create_task(agent.make(arrival.task)))
        return await asyncio.gather(*work)
    finally:
        await agent.stop()
