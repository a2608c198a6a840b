"""The journal of an agent: every event of every task, from which a new process resumes.

Events are accepted, decided, sent, failed over, resumed and ended. A task is accepted once and ends once, with an image
or an error. If the process dies, the next one resumes the accepted tasks that have not ended. Durations are on the
monotonic clock; the wall clock only labels events. See database.py for what survives a power cut.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import math
import shutil
import sqlite3
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from edgebrush.errors import UserError

from . import KEEP_DAYS, KEEP_TASKS
from .database import FILE, open_database
from .reader import connect
from .records import OPEN, Acceptance, Ending, Entry, SteadyClock, Task, TaskResult, to_json
from .takeover import take_over
from .writer import Writer

LOCK = "lock"
MAX_KEEP_DAYS = 36_500
UNUSABLE = "the journal cannot be used now"


class JournalError(UserError):
    """The journal cannot be written or read now, for example because the disk is full."""


class Journal:
    """The journal in a folder, which one agent uses at a time.

    It keeps the newest ``keep_tasks`` ended tasks, for ``keep_days``. ``unfinished`` are the tasks that an earlier
    process left. Raises ``UserError`` where the folder cannot be used.
    """

    def __init__(self, folder: Path, keep_tasks: int = KEEP_TASKS, keep_days: float = KEEP_DAYS):
        if not (keep_tasks >= 1 and 0 <= keep_days <= MAX_KEEP_DAYS):
            given = f"keep_tasks = {keep_tasks}, keep_days = {keep_days:g}"
            raise UserError(f"{given}: give at least 1 task and 0 to {MAX_KEEP_DAYS} days")
        self.folder = folder
        self.clock = SteadyClock()
        self.unwritten: dict[str, TaskResult] = {}  # results that are not in the database yet
        with ExitStack() as undo:  # where a step fails
            self.lock_file = undo.enter_context(_lock(folder))
            connection = undo.enter_context(closing(open_database(folder)))
            take_over(folder, connection)
            rows = connection.execute("SELECT requested FROM tasks WHERE state = ? ORDER BY rowid", (OPEN,))
            self.unfinished = [Task(**json.loads(requested)) for (requested,) in rows]
            self.reading = connect(folder)
            undo.pop_all()
        self.writer = Writer(connection, keep_tasks, keep_days, self.clock)

    @property
    def problem(self) -> str | None:
        """Why the journal cannot be written now; None where it can."""
        return self.writer.problem

    def check_writable(self) -> None:
        """Raises ``JournalError`` while the journal cannot be written."""
        if self.problem:
            raise JournalError(f"{UNUSABLE}: {self.problem}")

    def size_bytes(self) -> float:
        """Size of the database with its write-ahead log; NaN where it cannot be read."""
        try:
            return sum(path.stat().st_size for path in self.folder.glob(f"{FILE}*"))
        except OSError:
            return math.nan

    def free_bytes(self) -> float:
        """Free space on the disk, for this user; NaN where it cannot be read."""
        try:
            return shutil.disk_usage(self.folder).free
        except OSError:
            return math.nan

    @property
    def busy(self) -> bool:
        """Whether entries wait for the writer's first attempt."""
        return self.writer.unattempted > 0

    async def accept(self, task: Task) -> None:
        """Record a task before any work on it starts. Returns when it would survive a power cut.

        Raises ``JournalError`` where it cannot be written. Then the task is not accepted, also not later.
        """
        self.check_writable()
        failed = await self._put(Acceptance(task=task.id, event="accepted", requested=to_json(task)))
        if failed:
            raise JournalError(f"{UNUSABLE}: {failed}")

    async def end(self, result: TaskResult) -> None:
        """Record the end of a task. Returns when it would survive a power cut.

        Where it cannot be written, the result stays in memory, is tried again, and this returns.
        """
        self.unwritten[result.task] = result
        await self._put(
            Ending(
                task=result.task,
                event="ended",
                result=to_json(result),
                image=result.image,
                ended_at=self.clock.now(),
            )
        )

    def write(self, task_id: str, event: str, **fields: Any) -> None:
        """Record an event of a task that was accepted. It is written soon, in order."""
        self.writer.put(Entry(task=task_id, event=event, fields=json.dumps(fields)))

    def task(self, task_id: str) -> Task | None:
        """An accepted task; None where it is not known. Raises ``JournalError``."""
        row = self._read("SELECT requested FROM tasks WHERE id = ?", task_id)
        return Task(**json.loads(row[0])) if row else None

    def result(self, task_id: str) -> TaskResult | None:
        """The result of a task, with its image; None where it has not ended. Raises ``JournalError``."""
        if task_id in self.unwritten:
            return self.unwritten[task_id]
        row = self._read(
            "SELECT result, data FROM tasks LEFT JOIN images ON task = id WHERE id = ? AND result NOT NULL", task_id
        )
        return replace(TaskResult(**json.loads(row[0])), image=row[1]) if row else None

    def close(self) -> None:
        """Write what is left, and let another agent use the folder."""
        self.reading.close()
        self.writer.close()
        self.lock_file.close()

    async def _put(self, entry: Entry) -> Exception | None:
        """Write an entry and wait for the first attempt. Returns its error, or None."""
        loop = asyncio.get_running_loop()
        attempted: asyncio.Future[Exception | None] = loop.create_future()

        def note(error: Exception | None) -> None:
            if error is None:
                self.unwritten.pop(entry.task, None)
            if not attempted.done():
                attempted.set_result(error)

        def on_attempt(error: Exception | None) -> None:
            with suppress(RuntimeError):  # the loop was closed in the meantime
                loop.call_soon_threadsafe(note, error)

        self.writer.put(replace(entry, on_attempt=on_attempt))
        return await attempted

    def _read(self, query: str, task_id: str) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self.reading.execute(query, (task_id,)).fetchone()
        except sqlite3.Error as error:
            raise JournalError(f"{UNUSABLE}: {error}") from None
        return row


def _lock(folder: Path) -> IO[str]:
    """The lock on a folder, which is released when its file is closed or the process ends. Raises ``UserError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "a", encoding="utf-8")  # noqa: SIM115  (for as long as the agent lives)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"journal = {str(folder)!r}: another agent uses it; give another folder") from None
    except OSError as error:
        raise UserError(
            f"journal = {str(folder)!r}: cannot be written: {error.strerror}; give another folder"
        ) from None
    return file
