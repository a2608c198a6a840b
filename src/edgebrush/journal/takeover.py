"""Takes over a journal of edgebrush 0.1: lines of JSON in ``tasks.jsonl``, images in ``images/``."""

from __future__ import annotations

import json
import logging
import math
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from edgebrush.errors import UserError

from .database import insert_entry, transaction
from .records import Acceptance, Ending, Entry, Task, TaskResult, to_json, wall_time

OLD, MIGRATED, OLD_IMAGES = "tasks.jsonl", "tasks.jsonl.migrated", "images"
UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)  # what a damaged line can raise

log = logging.getLogger(__name__)


def take_over(folder: Path, connection: sqlite3.Connection) -> None:
    """Copy the old journal in a folder, if there is one, in one transaction, and rename it to ``tasks.jsonl.migrated``.

    Lines that cannot be read are skipped with a warning. Images stay where they are, too. Raises ``UserError``.
    """
    path = folder / OLD
    if not path.is_file():
        return
    known = {task for (task,) in connection.execute("SELECT id FROM tasks")}  # the rename may have failed before
    accepted: set[str] = set()
    skipped = 0
    try:
        with transaction(connection):
            for entry in _entries(path):
                if entry is None or (isinstance(entry, Acceptance) == (entry.task in accepted)):
                    skipped += 1
                    continue
                if isinstance(entry, Acceptance):
                    accepted.add(entry.task)
                if entry.task not in known:
                    insert_entry(connection, entry)
        path.rename(folder / MIGRATED)
    except (OSError, sqlite3.Error) as error:
        raise UserError(f"{path}: cannot be taken over: {error}; make room, or move it away") from None
    log.warning("%s: %d tasks were taken over; it is %s now", path, len(accepted), MIGRATED)
    if skipped:
        log.warning("%s: %d lines were skipped, because they are damaged or of unknown tasks", path, skipped)


def _entries(path: Path) -> Iterator[Entry | None]:
    """The entry of each line; None for one that cannot be read."""
    with open(path, encoding="utf-8", errors="replace") as lines:
        for text in lines:
            try:
                yield _entry(json.loads(text), path.with_name(OLD_IMAGES))
            except UNREADABLE:
                yield None


def _entry(line: dict[str, Any], images: Path) -> Entry:
    task, event, at_s = line.pop("task"), line.pop("event"), float(line.pop("at_s"))
    (task + event).encode()  # SQLite needs valid UTF-8
    if not math.isfinite(at_s):
        raise ValueError(at_s)
    time = wall_time(datetime.fromisoformat(line.pop("time")))
    if event == "accepted":
        requested = to_json(Task(**line["wanted"] | {"id": task}))
        return Acceptance(task=task, event=event, at_s=at_s, time=time, requested=requested)
    if event == "ended":
        result = TaskResult(**line["ended"])
        path = images / f"{task}.png"
        image = path.read_bytes() if line["ok"] and path.is_file() else None
        if line["ok"] and image is None:
            result = TaskResult(task, None, "its image was not there when the journal was taken over")
        return Ending(task=task, event=event, at_s=at_s, time=time, result=to_json(result), image=image, ended_at=time)
    return Entry(task=task, event=event, at_s=at_s, time=time, fields=json.dumps(line))
