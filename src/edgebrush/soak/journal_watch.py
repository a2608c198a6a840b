"""Follows the agents' journals while they are written: how each task ended, and when each agent used each station."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgebrush.agent.agent import OWN
from edgebrush.journal.reader import Line, read_journal

Pair = tuple[int, int]  # a UE and a BS, from 0


def request_of(task: str) -> str:
    """The key of the request for a task's image (``agent.app.tasks_of``)."""
    return task.rpartition("-")[0]


class JournalWatch:
    """The accounts of all agents. ``read`` brings them up to date."""

    def __init__(self, journals: list[Path], stations: list[str]):
        self.journals, self.stations = journals, stations
        self.position = [0] * len(journals)  # event number up to which each journal has been read
        self.accepted: Counter[str] = Counter()  # how often, by task
        self.ended: Counter[str] = Counter()
        self.twice: set[str] = set()  # tasks that were accepted or ended more than once
        self.images: set[str] = set()  # tasks that ended in an image
        self.places: Counter[str] = Counter()  # where the images were made
        self.failed_over = 0
        self.uses_s: dict[Pair, list[float]] = {}  # when an agent got an image from a station (monotonic clock)

    def read(self) -> None:
        """Read the events that were written since the last call."""
        for ue, folder in enumerate(self.journals):
            for line in read_journal(folder, self.position[ue]):
                self.position[ue] = line["number"]
                self._count(ue, line)

    def _count(self, ue: int, line: Line) -> None:
        task = line["task"]
        match line["event"]:
            case "accepted":
                self._add(self.accepted, task)
            case "failed over":
                self.failed_over += 1
            case "ended":
                self._add(self.ended, task)
                if line["ok"]:
                    self.images.add(task)
                    self._use(ue, line["ended"]["place"], line["at_s"])

    def _add(self, counts: Counter[str], task: str) -> None:
        counts[task] += 1
        if counts[task] > 1:
            self.twice.add(task)

    def _use(self, ue: int, place: str, at_s: float) -> None:
        self.places[place] += 1
        if place != OWN:
            self.uses_s.setdefault((ue, self.stations.index(place)), []).append(at_s)

    def first_use_s(self, pair: Pair, after_s: float) -> float | None:
        """When an agent first got an image from a station after a time; None if it has not."""
        return next((at_s for at_s in self.uses_s.get(pair, []) if at_s > after_s), None)

    def forget_uses(self) -> None:
        """Start ``first_use_s`` afresh, so that the lists stay short."""
        self.uses_s.clear()

    @property
    def open(self) -> set[str]:
        """Accepted tasks that have not ended."""
        return self.accepted.keys() - self.ended.keys()
