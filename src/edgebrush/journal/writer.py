"""The thread that writes the journal, so that the event loop never waits for the disk.

It writes all entries that have arrived since its last transaction in the next one, so that many tasks at once share one
synchronization with the disk. While the disk is full, or cannot be written for another reason, it refuses acceptances,
keeps the other entries in memory, and tries again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque

from .database import STEP_TASKS, check_space, remove_old, write_entries
from .records import Acceptance, Ending, Entry, SteadyClock

BATCH = 256  # entries in one transaction
RETRY_S = 1.0  # between attempts to write while there is a problem
REMOVE_S = 10.0  # between looks for old tasks, unless STEP_TASKS have ended before

log = logging.getLogger(__name__)


class Writer:
    """Writes the entries that it gets, in their order, and removes old tasks. ``close`` ends it and its connection.

    ``problem`` is why the journal cannot be written now, or None.
    """

    def __init__(self, connection: sqlite3.Connection, keep_tasks: int, keep_days: float, clock: SteadyClock):
        self.connection, self.keep_tasks, self.keep_days, self.clock = connection, keep_tasks, keep_days, clock
        self.problem: str | None = None
        self.waiting: deque[Entry] = deque()
        self.unwritten: list[Entry] = []  # entries that failed and are tried again
        self.unattempted = 0  # entries whose first attempt has not ended
        self.closing = False
        self.changed = threading.Condition()
        self.remove_at = 0.0  # when to look for old tasks, on the monotonic clock
        self.ended = 0  # tasks since the last look
        self.thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self.thread.start()

    def put(self, entry: Entry) -> None:
        """Write an entry soon."""
        with self.changed:
            self.waiting.append(entry)
            self.unattempted += 1
            self.changed.notify()

    def close(self) -> None:
        """Write what is left and close the connection."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        self.thread.join()
        if self.unwritten:
            log.error(
                "the journal could not be written: %s; its last %d entries are lost", self.problem, len(self.unwritten)
            )
        self.connection.close()

    def _run(self) -> None:
        while not self.closing or self.waiting:
            self._wait()
            with self.changed:
                batch = [self.waiting.popleft() for _ in range(min(len(self.waiting), BATCH))]
            if batch or self.problem:
                self._write(batch)
            if self.ended >= STEP_TASKS or time.monotonic() >= self.remove_at:
                self._remove_old()

    def _wait(self) -> None:
        """Wait for entries; while there is a problem, for the time of the next attempt."""
        with self.changed:
            if self.problem:
                self.changed.wait_for(lambda: self.closing, RETRY_S)
            else:
                left_s = max(self.remove_at - time.monotonic(), 0.0)
                self.changed.wait_for(lambda: self.waiting or self.closing, left_s)

    def _write(self, batch: list[Entry]) -> None:
        """Write what failed before and a batch, or find out whether the disk can be written."""
        entries = [*self.unwritten, *batch]
        failed: Exception | None = None
        try:
            if entries:
                write_entries(self.connection, entries)
            else:
                check_space(self.connection)
        except Exception as error:  # whatever it is, the thread goes on and the agent learns of it
            failed = error
        self.unwritten = [entry for entry in entries if failed and not isinstance(entry, Acceptance)]
        self.ended += sum(isinstance(entry, Ending) for entry in entries if not failed)
        self._report(failed)
        for entry in entries:
            if entry.on_attempt:
                entry.on_attempt(failed)
        with self.changed:
            self.unattempted -= len(batch)

    def _report(self, failed: Exception | None) -> None:
        if failed and not self.problem:
            log.error("the journal cannot be written: %s; new tasks are refused until it can", failed)
        if self.problem and not failed:
            log.warning("the journal can be written again")
        self.problem = (str(failed) or type(failed).__name__) if failed else None

    def _remove_old(self) -> None:
        more, self.ended = False, 0
        try:
            more = remove_old(self.connection, self.keep_tasks, self.clock.now(days_ago=self.keep_days))
        except Exception as error:  # it is tried again later
            log.warning("old tasks cannot be removed from the journal: %s", error)
        self.remove_at = time.monotonic() + (0.0 if more else REMOVE_S)
