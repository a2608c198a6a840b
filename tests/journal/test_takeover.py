"""Journals of edgebrush 0.1, lines of JSON and image files, are taken over once, whatever is in them."""

import json

import pytest

from edgebrush.errors import UserError
from edgebrush.journal import takeover
from edgebrush.journal.reader import read_image, read_journal
from tests.support.agents import PreferSlots, audit_journal, generate_all, make_task
from tests.support.fakes import PNG
from tests.support.journals import events_of, opened

WANTED = {
    "prompt": "circle",
    "request": "waiting",
    "seed": 1,
    "negative": "",
    "guidance": 1.0,
    "deadline_s": None,
    "accepted_s": 3.5,
}
ENDED = {"image": None, "error": "", "place": "own", "steps": 2, "service_class": 1, "delay_s": 0.5, "attempts": 1}
DAMAGED = [
    "123",
    "",
    "null",
    '"text"',
    "[1, 2]",
    "{}",
    "{",
    "[" * 100_000,
    '{"task": "t9", "event": "acc',
    json.dumps({"task": "x", "event": "accepted", "at_s": 1.0, "time": "2026-11-26T10:00:00+00:00", "wanted": 5}),
    json.dumps({"task": "x", "event": "accepted", "at_s": 1.0, "time": "noon", "wanted": WANTED | {"id": "x"}}),
    json.dumps({"task": "x", "event": "sent", "at_s": "1" * 400, "time": "2026-11-26T10:00:00+00:00"}),
    json.dumps({"task": "\ud800", "event": "sent", "at_s": 1.0, "time": "2026-11-26T10:00:00+00:00"}),
    json.dumps({"task": ["x"], "event": "sent", "at_s": 1.0, "time": "2026-11-26T10:00:00+00:00"}),
]


def line(task, event, **fields):
    return json.dumps({"task": task, "event": event, "at_s": 4.0, "time": "2026-11-26T10:00:00.000+00:00", **fields})


def accepted(task, **wanted):
    return line(task, "accepted", wanted=WANTED | {"id": task} | wanted)


def write_old(folder, *lines, images=()):
    (folder / "images").mkdir(parents=True)
    (folder / "tasks.jsonl").write_text("\n".join(lines))
    for task in images:
        (folder / "images" / f"{task}.png").write_bytes(PNG)


def test_an_old_journal_is_taken_over_and_its_open_tasks_are_made(tmp_path, caplog):
    done = line("a", "ended", ok=True, ended={"task": "a", **ENDED})
    lost = line("b", "ended", ok=True, ended={"task": "b", **ENDED})
    failed = line("c", "ended", ok=False, ended={"task": "c", **ENDED, "error": "no place is left"})
    decided = line("a", "decided", place="own", battery=0.5)
    lines = [accepted("a"), decided, accepted("open", seed=7), done, accepted("b"), lost, accepted("c"), failed]
    write_old(tmp_path, *lines, images=["a"])
    [result] = generate_all(tmp_path, PreferSlots(0), {}, [make_task("open")])
    assert result.image and "4 tasks were taken over; it is tasks.jsonl.migrated now" in caplog.text
    assert "were skipped" not in caplog.text and not (tmp_path / "tasks.jsonl").exists()
    assert (tmp_path / "tasks.jsonl.migrated").read_text().splitlines() == lines
    with opened(tmp_path) as journal:
        assert journal.result("a").image == read_image(tmp_path, "a") == PNG and journal.task("open").seed == 7
        assert "its image was not there" in journal.result("b").error
        assert journal.result("c").error == "no place is left" and journal.unfinished == []
    assert events_of(tmp_path, "a") == ["accepted", "decided", "ended"]
    first, second = read_journal(tmp_path)[:2]
    assert first["wanted"]["accepted_s"] == 3.5 and first["time"] == "2026-11-26T10:00:00.000+00:00"
    assert second["battery"] == 0.5 and second["at_s"] == 4.0
    assert audit_journal(tmp_path, 4) == 2


def test_damaged_lines_are_skipped_with_their_number(tmp_path, caplog):
    """Among them a line `123`, which was a traceback once."""
    unknown = [line("nobody", "ended", ok=False, ended={"task": "nobody", **ENDED}), accepted("a")]
    write_old(tmp_path, accepted("a"), *DAMAGED[:-1], *unknown, DAMAGED[-1])
    with opened(tmp_path) as journal:
        assert [task.id for task in journal.unfinished] == ["a"]
    assert f"{len(DAMAGED) + 2} lines were skipped" in caplog.text
    assert events_of(tmp_path, "a") == ["accepted"] and len(read_journal(tmp_path)) == 1


def test_a_takeover_that_was_interrupted_is_completed_once(tmp_path, monkeypatch):
    write_old(tmp_path, accepted("a"), accepted("b"))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match="No space left"),
    ):
        patch.setattr(takeover, "insert_entry", full)
        opened(tmp_path).__enter__()
    assert (tmp_path / "tasks.jsonl").exists()
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"tasks.jsonl: cannot be taken over"):
        patch.setattr("pathlib.Path.rename", full)  # after the transaction
        opened(tmp_path).__enter__()
    with opened(tmp_path) as journal:
        assert [task.id for task in journal.unfinished] == ["a", "b"]
    assert len(read_journal(tmp_path)) == 2
