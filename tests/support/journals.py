"""Journals for tests: with tasks of any kind, on a disk that is full, and with lines that no agent would write."""

import json
from contextlib import closing, contextmanager

import pytest

from edgebrush.journal.database import open_database, transaction
from edgebrush.journal.journal import Journal
from edgebrush.journal.reader import read_journal
from edgebrush.journal.records import TaskResult
from tests.support.agents import make_task
from tests.support.fakes import PNG


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Tests do not wait for the disk. Files are written and read as always, but a power cut may lose them."""
    for name in ("DURABLE", "RELAXED"):
        monkeypatch.setattr(f"edgebrush.journal.database.{name}", "OFF")


@contextmanager
def opened(folder, **keep):
    journal = Journal(folder, **keep)
    try:
        yield journal
    finally:
        journal.close()


async def record(journal, *names, image=PNG):
    """Accept and end tasks."""
    for name in names:
        await journal.accept(make_task(name))
        journal.write(name, "decided", place="own")
        await journal.end(TaskResult(name, image, "" if image else "no"))


def fill_disk(journal):
    """Let the database have no more pages, as if the disk were full."""
    pages = journal.writer.connection.execute("PRAGMA page_count").fetchone()[0]
    journal.writer.connection.execute(f"PRAGMA max_page_count = {pages}")


def free_disk(journal):
    journal.writer.connection.execute("PRAGMA max_page_count = 1000000")


def events_of(folder, task):
    return [line["event"] for line in read_journal(folder) if line["task"] == task]


def append_lines(folder, lines, images=()):
    """Write lines as ``read_journal`` returns them, also those that no agent would write, and images of tasks."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(open_database(folder)) as connection, transaction(connection):
        for line in lines:
            insert_line(connection, **line)
        for task in images:
            connection.execute("INSERT INTO images VALUES (?, ?)", (task, b"png"))


def insert_line(connection, task, event, at_s=0.0, time="", ok=None, wanted=None, ended=None, **fields):
    row = task, "open", time, json.dumps(wanted or {})
    connection.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?, ?, NULL, ?, NULL)", row)
    if event == "ended":
        end = "image" if ok else "error", time, json.dumps(ended or {}), task
        connection.execute("UPDATE tasks SET state = ?, ended_at = ?, result = ? WHERE id = ?", end)
    event = task, event, at_s, time, json.dumps(fields)
    connection.execute("INSERT INTO events (task, event, at_s, time, fields) VALUES (?, ?, ?, ?, ?)", event)
