"""Reads journals, also while an agent writes them: from other processes, read-only, a page of rows at a time.

A page is one short read transaction, so a reader never keeps the write-ahead log from being cut.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from edgebrush.errors import UserError

from .database import BUSY_S, FILE, VERSION
from .records import IMAGE
from .takeover import OLD

PAGE_ROWS = 1000

Line = dict[str, Any]  # an event: task, event, at_s, time, and the event's fields

EVENTS = """
SELECT number, task, event, at_s, time, fields, state, requested, result
FROM events JOIN tasks ON tasks.id = events.task
WHERE number > ? ORDER BY number LIMIT ?
"""
TASKS = """
SELECT rowid, id, state, accepted_at, ended_at, requested, result FROM tasks WHERE rowid > ? ORDER BY rowid LIMIT ?
"""


def check_journal(folder: Path) -> None:
    """Raises ``UserError`` where there is no journal in a folder."""
    if (folder / FILE).is_file():
        return
    if (folder / OLD).is_file():
        raise UserError(f"{folder / OLD}: is of edgebrush 0.1; `edgebrush ue --journal {folder}` takes it over")
    raise UserError(f"{str(folder)!r}: there is no journal; give the folder of `edgebrush ue --journal`")


def connect(folder: Path) -> sqlite3.Connection:
    """A connection to a journal that only reads. Raises ``sqlite3.Error`` where there is no journal."""
    uri = f"{(folder / FILE).absolute().as_uri()}?mode=ro"
    if not os.access(folder, os.W_OK) and not (folder / f"{FILE}-wal").exists():
        uri += "&immutable=1"  # an archive: SQLite cannot create its files for locks, and nobody writes
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def read_journal(folder: Path, after: int = 0) -> list[Line]:
    """The events after event number ``after``, in order; none where there is no journal.

    An event "accepted" has the task as ``wanted``. An event "ended" has the result as ``ended``, and ``ok`` if it is an
    image. Raises ``UserError`` where the journal cannot be read.
    """
    return [_line(*row) for row in _pages(folder, EVENTS, after)]


def _line(
    number: int, task: str, event: str, at_s: float, time: str, fields: str, state: str, requested: str, result: str
) -> Line:
    line = {"number": number, "task": task, "event": event, "at_s": at_s, "time": time, **json.loads(fields)}
    if event == "accepted":
        line["wanted"] = json.loads(requested)
    elif event == "ended":
        line |= {"ok": state == IMAGE, "ended": json.loads(result)}
    return line


def read_tasks(folder: Path) -> list[dict[str, Any]]:
    """The tasks in order of their acceptance, each with its state, what was requested, and the result.

    Raises ``UserError`` where the journal cannot be read.
    """
    return [_task(*row) for row in _pages(folder, TASKS)]


def _task(
    _: int, id: str, state: str, accepted_at: str, ended_at: str | None, requested: str, result: str | None
) -> dict[str, Any]:
    row = {"task": id, "state": state, "accepted_at": accepted_at, "ended_at": ended_at, **json.loads(requested)}
    row |= json.loads(result) if result else {}
    return {name: value for name, value in row.items() if name not in ("id", "image", "accepted_s", "fingerprint")}


def read_image(folder: Path, task: str) -> bytes | None:
    """A task's image file; None where it has none. Raises ``UserError`` where the journal cannot be read."""
    with _reading(folder) as connection:
        rows = connection.execute("SELECT data FROM images WHERE task = ?", (task,)).fetchall() if connection else []
    return rows[0][0] if rows else None


def _pages(folder: Path, query: str, after: int = 0) -> Iterator[tuple[Any, ...]]:
    """All rows of a query whose first column orders them and whose parameters are: after which, how many."""
    with _reading(folder) as connection:
        while connection and (rows := connection.execute(query, (after, PAGE_ROWS)).fetchall()):
            yield from rows
            after = rows[-1][0]


@contextmanager
def _reading(folder: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection to a journal; None where there is none yet. Raises ``UserError``."""
    if not (folder / FILE).is_file():
        yield None
        return
    try:
        with closing(connect(folder)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise UserError(f"{folder / FILE}: has version {version} of the journal; update edgebrush")
            yield connection if version else None  # 0: an agent is creating it
    except sqlite3.Error as error:
        raise UserError(f"{folder / FILE}: cannot be read: {error}") from None
