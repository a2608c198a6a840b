"""Journals that no agent wrote, for tests of their readers."""

import json
from contextlib import closing

from edgebrush.agent.journal.database import open_database, transaction


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
