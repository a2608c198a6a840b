"""The outcomes of a testbed run from the agents' journals: one row per task as in the simulator, and the audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.agent.agent import OWN
from edgebrush.decision.task_cost import energy_weight_at, fill_cost, penalty, quality_at
from edgebrush.errors import UserError
from edgebrush.journal.reader import Line, read_image, read_journal
from edgebrush.scenario.expand import bs_names
from edgebrush.sim.state import OUTCOME

from .episode import Episode, EpisodeTask


@dataclass(frozen=True)
class TaskRecord:
    """The last "decided" and the last "ended" line of a task in a journal; None if there is no such line."""

    decided: Line | None
    ended: Line | None

    @property
    def image(self) -> bool:
        """Whether the task ended in an image."""
        return self.ended is not None and self.ended["ok"]


def task_records(lines: Iterable[Line]) -> dict[str, TaskRecord]:
    """A record of each task in journal lines, by task id."""
    last: dict[str, dict[str, Line]] = {}
    for line in lines:
        last.setdefault(line["task"], {})[line["event"]] = line
    return {task: TaskRecord(last[task].get("decided"), last[task].get("ended")) for task in last}


def task_id(task: EpisodeTask) -> str:
    """The agent's id for the only image of a request with the task's key (``agent.app.tasks_of``)."""
    return f"{task.key}-0"


@dataclass(frozen=True)
class Audit:
    """How the requested tasks ended. ``lost`` and ``twice`` must be 0."""

    requested: int
    images: int
    errors: int
    lost: int  # requested but never ended, or ended in an image that is missing
    twice: int  # ended more than once
    failed_over: int  # failed attempts at a place, after which the task went elsewhere

    def entries(self) -> dict[str, int]:
        """The counts by their names in ``results.json``."""
        counts = asdict(self)
        return {"asked": counts.pop("requested"), **counts}

    def __str__(self) -> str:
        return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in asdict(self).items())


def audit(requested: int, journals: Sequence[Path]) -> Audit:
    """Count how ``requested`` tasks ended in the agents' journals."""
    ends: Counter[str] = Counter()
    images = errors = missing = failed_over = 0
    for folder in journals:
        for line in read_journal(folder):
            failed_over += line["event"] == "failed over"
            if line["event"] != "ended":
                continue
            ends[line["task"]] += 1
            if not line["ok"]:
                errors += 1
            elif read_image(folder, line["task"]):
                images += 1
            else:
                missing += 1
    return Audit(requested, images, errors, requested - len(ends) + missing, ends.total() - len(ends), failed_over)


def outcomes(episode: Episode, records: dict[str, TaskRecord], start_s: float) -> np.ndarray:
    """``state.OUTCOME`` rows of the episode's tasks, in their order. The episode began at ``start_s`` (monotonic).

    The delay runs from the task's scheduled arrival until its image is in the journal. Energies are those that the
    agent and the BS reported. Quality is the model's curve at the steps made; the cost follows decision/task_cost.py.
    """
    rows = np.zeros(len(episode.tasks), OUTCOME)
    places = [OWN, *bs_names(episode.scenario)]
    for row, task in zip(rows.view(np.recarray), episode.tasks, strict=True):
        record = records[task_id(task)]
        assert record.ended
        row["ue"], row["number"], row["arrival_s"] = task.ue, task.number, task.at_s
        row["request"], row["content"] = task.request, task.content
        row["end_s"] = record.ended["at_s"] - start_s
        row["delay_s"] = row["end_s"] - row["arrival_s"]
        _fill_end(row, record.ended["ended"], record.image, places)
        _charge(row, episode, record)
    return rows


def _fill_end(row: Any, ended: dict[str, Any], image: bool, places: list[str]) -> None:
    row["place"] = places.index(ended["place"]) if image else 0
    row["steps"] = ended["steps"] if image else -1
    row["service_class"] = ended["service_class"]
    row["energy_ue_j"], row["energy_bs_j"] = ended["energy_ue_j"], ended["energy_bs_j"]
    row["refused"], row["missed"] = ended["attempts"] > 1, ended["missed"]
    row["dropped"] = not image and ended["missed"]
    row["lost"] = not image and not ended["missed"]


def _charge(row: Any, episode: Episode, record: TaskRecord) -> None:
    params = episode.params
    common, device, kind = params.common[0], params.ue[row.ue], params.request[row.request]
    if record.image:
        maker = device if row.place == 0 else params.bs[row.place - 1]
        curve = maker["ceiling"], maker["half_steps"], maker["sharpness"]
        row.quality = quality_at(*curve, params.content[row.content]["difficulty"], row.steps)
    level = record.decided["battery"] if record.decided else 1.0
    energy_weight = energy_weight_at(kind["energy_weight"], device["battery_care"], level)
    penalty_cost = penalty(common["missed"], common["lost"], row.missed, row.lost)
    weights = kind["delay_weight"], energy_weight, kind["quality_weight"], common["bs_energy_weight"]
    fill_cost(row, *weights, penalty_cost)


def decisions(episode: Episode, records: dict[str, TaskRecord]) -> list[tuple[int, int, int]]:
    """(place, steps, class) of the last decision for each of the episode's tasks, in their order.

    Raises ``UserError`` if a task ended before a decision: the simulator has no such tasks.
    """
    places = [OWN, *bs_names(episode.scenario)]
    found = []
    for task in episode.tasks:
        line = records[task_id(task)].decided
        if line is None:
            raise UserError(f"against-sim: {task.key} ended before a decision; remove --against-sim")
        found.append((places.index(line["place"]), line["steps"], line["service_class"]))
    return found
