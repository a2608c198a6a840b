"""The tasks of several agents' journals, as a fit needs them: by UE, by request, on one clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from edgebrush.errors import UserError
from edgebrush.journal.database import FILE
from edgebrush.journal.reader import check_journal, read_tasks
from edgebrush.journal.records import IMAGE
from edgebrush.scenario.expand import bs_names
from edgebrush.scenario.schema import Scenario

OWN = "own"  # the UE's own device as a place
NUMBERED = re.compile(r"(.+)-(\d+)((?:\.\d+)?)")  # a request's image: its key, its number, and which attempt
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)  # what damaged content can raise


@dataclass(frozen=True)
class RecordedTask:
    """A task of UE ``ue`` (from 0). Times are Unix times; ``at_s`` is the arrival, ``end_s`` None while it is open."""

    ue: int
    id: str
    at_s: float
    end_s: float | None
    kind: str
    has_image: bool
    place: str
    steps: int
    attempts: int
    compute_s: float
    server_s: float
    travel_s: float
    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True)
class RecordedRequest:
    """A request for ``images`` images at once."""

    ue: int
    at_s: float
    kind: str
    images: int


@dataclass(frozen=True)
class Records:
    """What the journals of ``ues`` (from 0) hold between ``start_s`` and ``end_s``."""

    ues: tuple[int, ...]
    tasks: list[RecordedTask]
    requests: list[RecordedRequest]
    start_s: float
    end_s: float

    @property
    def span_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def made(self) -> list[RecordedTask]:
        """The tasks with an image."""
        return [task for task in self.tasks if task.has_image]


def assign_journals(arguments: Sequence[str], scenario: Scenario) -> dict[int, Path]:
    """The folder of each UE (from 0), by ``N=FOLDER`` or by the folder's name ``ue-N``. Raises ``UserError``."""
    folders: dict[int, Path] = {}
    for argument in arguments:
        stated = re.fullmatch(r"(\d+)=(.+)", argument)
        folder = Path(stated[2] if stated else argument)
        number = stated[1] if stated else (re.findall(r"^ue-(\d+)$", folder.resolve().name) or [""])[0]
        if not number:
            raise UserError(f"journal = {argument!r}: whose is it? Give N=FOLDER, or a folder called ue-N, for UE N")
        if not 1 <= int(number) <= scenario.ue_count:
            raise UserError(f"journal = {argument!r}: {scenario.name} has UEs 1 to {scenario.ue_count}")
        if int(number) - 1 in folders:
            raise UserError(f"journal = {argument!r}: there is another journal of UE {number}")
        folders[int(number) - 1] = folder
    return folders


def read_records(
    folders: dict[int, Path], scenario: Scenario, start: datetime | None = None, end: datetime | None = None
) -> Records:
    """The tasks that arrived between two times. Without these, the span is from the first to the last request.

    Raises ``UserError`` where a journal cannot be read, is of another scenario, or where fewer than two requests are
    left.
    """
    tasks: list[RecordedTask] = []
    for ue, folder in folders.items():
        check_journal(folder)
        found = list(_recorded(ue, folder))
        _check(folder, found, scenario)
        tasks += found
    if start:
        tasks = [task for task in tasks if task.at_s >= start.timestamp()]
    if end:
        tasks = [task for task in tasks if task.at_s < end.timestamp()]
    requests = sorted(group(tasks), key=lambda request: request.at_s)
    if len(requests) < 2 or requests[-1].at_s == requests[0].at_s:
        where = ", ".join(map(str, folders.values()))
        raise UserError(f"{where}: {len(requests)} requests at different times; a fit needs at least 2")
    first_s = start.timestamp() if start else requests[0].at_s
    last_s = end.timestamp() if end else requests[-1].at_s
    return Records(tuple(folders), sorted(tasks, key=lambda task: task.at_s), requests, first_s, last_s)


def _recorded(ue: int, folder: Path) -> Iterable[RecordedTask]:
    """The tasks of a journal. Raises ``UserError``."""
    try:
        for row in read_tasks(folder):
            yield _task(ue, row)
    except UNREADABLE as error:
        problem = f"{type(error).__name__}: {error}"
        raise UserError(f"{folder / FILE}: its tasks cannot be read ({problem}); is it an agent's journal?") from None


def _task(ue: int, row: dict[str, Any]) -> RecordedTask:
    at_s = datetime.fromisoformat(row["accepted_at"]).timestamp()
    return RecordedTask(
        ue,
        str(row["task"]),
        at_s,
        at_s + float(row["delay_s"]) if row["ended_at"] else None,
        str(row["request"]),
        row["state"] == IMAGE,
        str(row.get("place", "")),
        int(row.get("steps", 0)),
        int(row.get("attempts", 0)),
        float(row.get("compute_s", 0.0)),
        float(row.get("server_s", 0.0)),  # from here on, journals of older agents have none
        float(row.get("travel_s", 0.0)),
        int(row.get("sent_bytes", 0)),
        int(row.get("received_bytes", 0)),
    )


def _check(folder: Path, tasks: Sequence[RecordedTask], scenario: Scenario) -> None:
    """Raises ``UserError`` where tasks are of another scenario."""
    kinds = [kind.name for kind in scenario.requests]
    places = ["", OWN, *bs_names(scenario)]
    for task in tasks:
        if task.kind not in kinds:
            raise UserError(f"{folder}: has requests of the kind {task.kind!r}; {scenario.name} has {', '.join(kinds)}")
        if task.place not in places:
            raise UserError(
                f"{folder}: has images of {task.place!r}; the stations of {scenario.name} are {', '.join(places[2:])}"
            )


def group(tasks: Sequence[RecordedTask]) -> list[RecordedRequest]:
    """The requests that the tasks belong to. The agent numbers a request's images from 0: ``KEY-0``, ``KEY-1``, ...

    Other ids, as of the rows of a task file, are requests for one image.
    """
    members: dict[tuple[int, str, str], list[tuple[int, RecordedTask]]] = {}
    for task in tasks:
        found = NUMBERED.fullmatch(task.id)
        key, number, attempt = (found[1], int(found[2]), found[3]) if found else (task.id, 0, "")
        members.setdefault((task.ue, key, attempt), []).append((number, task))
    requests = []
    for numbered in members.values():
        whole = sorted(number for number, _ in numbered) == list(range(len(numbered)))
        for part in [numbered] if whole else [[each] for each in numbered]:
            first = min((task for _, task in part), key=lambda task: task.at_s)
            requests.append(RecordedRequest(first.ue, first.at_s, first.kind, len(part)))
    return requests
