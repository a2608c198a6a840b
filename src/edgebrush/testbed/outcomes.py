"""What became of a round's tasks, by the agents' journals: outcomes as the simulator records them, and the audit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.agent.agent import OWN
from edgebrush.agent.journal import IMAGES, TASKS
from edgebrush.errors import UserError
from edgebrush.scenario.expand import bs_names
from edgebrush.sim.cost import quality_at
from edgebrush.sim.state import OUTCOME

from .episode import Arrival, Episode

Line = dict[str, Any]


def read_lines(folder: Path) -> list[Line]:
    """The whole lines of an agent's journal."""
    path = folder / TASKS
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@dataclass(frozen=True)
class Story:
    """What the journal tells of a task; ``decided`` and ``ended`` are the last such lines, None where there is none."""

    decided: Line | None
    ended: Line | None

    @property
    def image(self) -> bool:
        return self.ended is not None and self.ended["ok"]


def stories(lines: Iterable[Line]) -> dict[str, Story]:
    """By task, those that were accepted."""
    told: dict[str, dict[str, Line]] = {}
    for line in lines:
        told.setdefault(line["task"], {})[line["event"]] = line
    return {task: Story(told[task].get("decided"), told[task].get("ended")) for task in told}


def task_of(arrival: Arrival) -> str:
    """What the agent calls the one task of a request with an arrival's key (``gateway.tasks_of``)."""
    return f"{arrival.key}-0"


@dataclass(frozen=True)
class Audit:
    """Tasks that were asked for, and how they ended. All is well where ``lost`` and ``twice`` are 0."""

    asked: int
    images: int
    errors: int
    lost: int  # asked for, and never ended; or an image that is not there
    twice: int  # ended more than once
    failed_over: int  # tries at a place that came to nothing

    def __str__(self) -> str:
        return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in asdict(self).items())


def audit(asked: int, journals: Sequence[Path]) -> Audit:
    """Every task asked for must be in the journals, ended once, with an image or an error."""
    ends: Counter[str] = Counter()
    images = errors = missing = failed_over = 0
    for folder in journals:
        for line in read_lines(folder):
            failed_over += line["event"] == "failed over"
            if line["event"] != "ended":
                continue
            ends[line["task"]] += 1
            if not line["ok"]:
                errors += 1
            elif (folder / IMAGES / f"{line['task']}.png").is_file():
                images += 1
            else:
                missing += 1
    return Audit(asked, images, errors, asked - len(ends) + missing, ends.total() - len(ends), failed_over)


def outcomes(episode: Episode, told: dict[str, Story], start_s: float) -> np.ndarray:
    """``state.OUTCOME`` rows, one an arrival, in their order; ``start_s`` on the monotonic clock is the episode's 0.

    Delay is from the moment at which the task should have come until its image is in the journal; energies are the
    agent's and the BS's accounts, a picture's quality its model's curve at these steps. Cost as in sim/cost.py.
    """
    rows = np.zeros(len(episode.arrivals), OUTCOME)
    places = [OWN, *bs_names(episode.scenario)]
    for row, arrival in zip(rows, episode.arrivals, strict=True):
        story = told[task_of(arrival)]
        assert story.ended
        row["ue"], row["number"], row["arrival_s"] = arrival.ue, arrival.number, arrival.at_s
        row["request"], row["content"] = arrival.request, arrival.content
        row["end_s"] = story.ended["at_s"] - start_s
        row["delay_s"] = row["end_s"] - row["arrival_s"]
        _note_end(row, story.ended["ended"], story.image, places)
        _charge(row, episode, story)
    return rows


def _note_end(row: np.void, ended: dict[str, Any], image: bool, places: list[str]) -> None:
    row["place"] = places.index(ended["place"]) if image else 0
    row["steps"] = ended["steps"] if image else -1
    row["service_class"] = ended["service_class"]
    row["energy_ue_j"], row["energy_bs_j"] = ended["energy_ue_j"], ended["energy_bs_j"]
    row["refused"], row["missed"] = ended["attempts"] > 1, ended["missed"]
    row["dropped"] = not image and ended["missed"]
    row["lost"] = not image and not ended["missed"]


def _charge(row: np.void, episode: Episode, story: Story) -> None:
    common, device = episode.params.common[0], episode.params.ue[row["ue"]]
    kind, difficulty = episode.params.request[row["request"]], episode.params.content[row["content"]]["difficulty"]
    maker = device if row["place"] == 0 else episode.params.bs[row["place"] - 1]
    if story.image:
        curve = maker["ceiling"], maker["half_steps"], maker["sharpness"]
        row["quality"] = quality_at.py_func(*curve, difficulty, row["steps"])
    level = story.decided["battery"] if story.decided else 1.0
    energy_weight = kind["energy_weight"] * (1.0 + device["battery_care"] * (1.0 - level))
    row["delay_cost"] = kind["delay_weight"] * row["delay_s"]
    row["energy_cost"] = energy_weight * (row["energy_ue_j"] + common["bs_energy_weight"] * row["energy_bs_j"])
    row["quality_cost"] = kind["quality_weight"] * (1.0 - row["quality"])
    row["penalty_cost"] = common["missed"] * row["missed"] + common["lost"] * row["lost"]
    row["cost"] = row["delay_cost"] + row["energy_cost"] + row["quality_cost"] + row["penalty_cost"]


def decisions(episode: Episode, told: dict[str, Story]) -> list[tuple[int, int, int]]:
    """(place, steps, class) of each task as it was last decided, in the arrivals' order.

    Raises ``UserError`` where one was never decided, of which the simulator knows none.
    """
    places = [OWN, *bs_names(episode.scenario)]
    found = []
    for arrival in episode.arrivals:
        line = told[task_of(arrival)].decided
        if line is None:
            raise UserError(f"against-sim: {arrival.key} ended before it was decided; leave --against-sim out")
        found.append((places.index(line["place"]), line["steps"], line["service_class"]))
    return found
