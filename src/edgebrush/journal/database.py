"""The journal's SQLite database: its schema, what one transaction writes, and what is removed.

Durability: a transaction that accepts or ends a task is synchronized with the disk before it counts
(``synchronous = FULL``), so it survives a power cut. Other events are only handed to the operating system
(``synchronous = NORMAL``): they survive the death of the process, and a power cut may take the latest of them. In WAL
mode a power cut never damages the database.

Images are in the database, not in files: an image and the result that promises it are one transaction with one
synchronization, where a file would need three (file, folder, row), and a full disk leaves neither without the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgebrush.errors import UserError

from .records import ERROR, IMAGE, OPEN, Acceptance, Ending, Entry

FILE = "journal.sqlite"
VERSION = 1  # of the schema
DURABLE, RELAXED = "FULL", "NORMAL"  # values of SQLite's `synchronous`
BUSY_S = 5.0  # wait for a lock that another process holds
WAL_BYTES = 4 * 2**20  # to which the write-ahead log is cut when it starts again
STEP_TASKS = 50  # removed in one transaction
STEP_PAGES = 256  # returned to the file system in one transaction
FREE_PAGES = 1024  # kept in the file for new tasks
PROBE_BYTES = 16_384
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

SCHEMA = f"""
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('{OPEN}', '{IMAGE}', '{ERROR}')),
    accepted_at TEXT NOT NULL,  -- wall clock, UTC
    ended_at TEXT,              -- NULL: open
    requested TEXT NOT NULL,    -- JSON: the task
    result TEXT                 -- JSON: how it ended
);
CREATE INDEX tasks_by_end ON tasks (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE images (
    task TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    data BLOB NOT NULL          -- an image file
);
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    task TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    event TEXT NOT NULL,
    at_s REAL NOT NULL,         -- monotonic clock
    time TEXT NOT NULL,         -- wall clock, UTC
    fields TEXT NOT NULL        -- JSON; the task and its result are in tasks
);
CREATE INDEX events_by_task ON events (task);
"""


def open_database(folder: Path) -> sqlite3.Connection:
    """The database in a folder, created where there is none. Raises ``UserError`` where it cannot be used."""
    path = folder / FILE
    try:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, folder)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        if _code(error) in DAMAGED:
            raise _damaged(path, str(error)) from None
        raise UserError(f"journal = {str(folder)!r}: cannot be written: {error}; give another folder") from None
    return connection


def _prepare(connection: sqlite3.Connection, folder: Path) -> None:
    """Check the database's version and content, configure the connection, and create the tables of a new one."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise UserError(
            f"{folder / FILE}: has version {version} of the journal, this edgebrush knows {VERSION}; "
            "update edgebrush, or give another folder"
        )
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before anything is written
    connection.execute(f"PRAGMA synchronous = {DURABLE}")
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise UserError(f"journal = {str(folder)!r}: SQLite has no WAL mode there; give a folder on a local disk")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    connection.execute("PRAGMA foreign_keys = ON")
    if version == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
    for table in ("tasks", "events"):  # not images: that would read all of them at every start
        problem = connection.execute(f"PRAGMA quick_check({table})").fetchone()[0]
        if problem != "ok":
            raise _damaged(folder / FILE, problem)


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(f"{path}: is damaged ({' '.join(problem.split())}); move it away, or replace it by a copy")


def _code(error: sqlite3.Error) -> int:
    """The primary result code of an error of SQLite; 0 where it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def transaction(connection: sqlite3.Connection, durable: bool = True) -> Iterator[None]:
    """All that the block writes, or nothing. Raises ``sqlite3.Error``.

    If ``durable``, this transaction and all earlier ones survive a power cut.
    """
    connection.execute(f"PRAGMA synchronous = {DURABLE if durable else RELAXED}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has ended it
            connection.execute("ROLLBACK")
        raise


def write_entries(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Write entries in one transaction, in their order. Raises ``sqlite3.Error``, and then none is written.

    Only the first acceptance of a task is written, then only its first end; other events only if it was accepted.
    """
    durable = any(isinstance(entry, Acceptance | Ending) for entry in entries)
    with transaction(connection, durable):
        for entry in entries:
            insert_entry(connection, entry)


def insert_entry(connection: sqlite3.Connection, entry: Entry) -> None:
    """Write one entry in the current transaction."""
    if isinstance(entry, Acceptance):
        row = entry.task, OPEN, entry.time, entry.requested
        insert = "INSERT OR IGNORE INTO tasks (id, state, accepted_at, requested) VALUES (?, ?, ?, ?)"
        if not connection.execute(insert, row).rowcount:
            return
    elif isinstance(entry, Ending):
        end = ERROR if entry.image is None else IMAGE, entry.ended_at, entry.result, entry.task, OPEN
        update = "UPDATE tasks SET state = ?, ended_at = ?, result = ? WHERE id = ? AND state = ?"
        if not connection.execute(update, end).rowcount:
            return
        if entry.image is not None:
            connection.execute("INSERT INTO images (task, data) VALUES (?, ?)", (entry.task, entry.image))
    event = entry.task, entry.event, entry.at_s, entry.time, entry.fields, entry.task
    connection.execute(
        "INSERT INTO events (task, event, at_s, time, fields) "
        "SELECT ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM tasks WHERE id = ?)",
        event,
    )


def check_space(connection: sqlite3.Connection) -> None:
    """Write some pages that change nothing. Raises ``sqlite3.Error`` where that is not possible."""
    with transaction(connection):
        row = "", OPEN, "", " " * PROBE_BYTES
        connection.execute("INSERT INTO tasks (id, state, accepted_at, requested) VALUES (?, ?, ?, ?)", row)
        connection.execute("DELETE FROM tasks WHERE id = ''")


def remove_old(connection: sqlite3.Connection, keep_tasks: int, keep_since: str) -> bool:
    """Remove some of the ended tasks beyond the newest ``keep_tasks``, and of those that ended before ``keep_since``.

    Also returns some free pages to the file system. Whether there may be more to do. Raises ``sqlite3.Error``.
    """
    oldest = "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE ended_at < ? ORDER BY ended_at LIMIT ?)"
    with transaction(connection, durable=False):
        ended = connection.execute("SELECT count(*) FROM tasks WHERE ended_at IS NOT NULL").fetchone()[0]
        excess = min(max(ended - keep_tasks, 0), STEP_TASKS)
        removed = connection.execute(oldest, ("~", excess)).rowcount  # "~" is after all times
        removed += connection.execute(oldest, (keep_since, STEP_TASKS - removed)).rowcount
    free = connection.execute("PRAGMA freelist_count").fetchone()[0] - FREE_PAGES
    if free > 0:
        connection.execute(f"PRAGMA incremental_vacuum({min(free, STEP_PAGES)})").fetchall()
    return removed == STEP_TASKS or free > STEP_PAGES
