"""`edgebrush journal`: its table, its files, and folders that it cannot read."""

import asyncio
import csv
import json

import pytest

from edgebrush.cli.main import run
from edgebrush.journal.records import TaskResult
from tests.support.agents import make_task
from tests.support.fakes import PNG
from tests.support.journals import opened


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A journal with images of two places, errors of two kinds, and an open task."""
    monkeypatch.chdir(tmp_path)

    async def write():
        with opened(tmp_path / "j") as journal:
            for n in range(20):
                await journal.accept(make_task(f"t{n}"))
                journal.write(f"t{n}", "decided", place="own", loads={"large": {"running": 1}})
            for n in range(16):
                place, delay_s = ("large", 0.1 * n) if n < 12 else ("own", 2.0)
                await journal.end(TaskResult(f"t{n}", PNG, "", place, 10, delay_s=delay_s, energy_ue_j=0.5))
            for n, kind in ((16, "overload"), (17, "overload"), (18, "failed")):
                await journal.end(TaskResult(f"t{n}", None, "full", kind=kind))

    asyncio.run(write())
    return "j"


def test_the_table_has_places_errors_and_delays(folder, capsys):
    assert run(["journal", folder]) == 0
    table = capsys.readouterr().out
    rows = {words[0]: words[1:] for line in table.splitlines() if (words := line.split())}
    assert rows["large"] == ["12", "60.0%", "10.0", "0.550", "1.045", "1.089", "0.5", "0"]
    assert rows["own"][:2] == ["4", "20.0%"] and rows["open"] == ["1", "5.0%"] and rows["all"][0] == "20"
    assert "error: overload" in table and "error: failed" in table


def test_tasks_events_and_images_are_exported(folder, capsys, tmp_path):
    assert run(["journal", folder, "--tasks", "tasks.csv", "--events", "events.json", "--images", "pictures"]) == 0
    assert run(["journal", folder, "--tasks", "tasks.json", "--events", "events.csv"]) == 0
    assert "20 rows: tasks.csv" in (text := capsys.readouterr().out) and "16 images: pictures" in text
    with open("tasks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20 and rows[0]["prompt"] == "circle" and rows[3]["place"] == "large" and rows[19]["place"] == ""
    assert [row["state"] for row in rows[15:]] == ["image", "error", "error", "error", "open"]
    assert json.loads((tmp_path / "tasks.json").read_text())[3]["delay_s"] == pytest.approx(0.3)
    events = json.loads((tmp_path / "events.json").read_text())
    assert len(events) == 59 and events[1]["loads"] == {"large": {"running": 1}}
    with open("events.csv", newline="") as file:
        assert json.loads(list(csv.DictReader(file))[1]["loads"]) == {"large": {"running": 1}}
    assert (tmp_path / "pictures" / "t7.png").read_bytes() == PNG and len(list((tmp_path / "pictures").iterdir())) == 16


def test_an_empty_journal_has_a_table(tmp_path, capsys):
    with opened(tmp_path / "empty"):
        assert run(["journal", str(tmp_path / "empty"), "--tasks", str(tmp_path / "none.csv")]) == 0
    assert "all" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'nowhere': there is no journal; give the folder of `edgebrush ue --journal`"),
        (["old"], "old/tasks.jsonl: is of edgebrush 0.1; `edgebrush ue --journal old` takes it over"),
        (["j", "--tasks", "tasks.txt"], "tasks.txt: give a name that ends in .csv or .json"),
        (["j", "--events", "nowhere/events.csv"], "nowhere/events.csv: cannot be written"),
        (["j", "--images", "/proc/none"], "'/proc/none': cannot be written"),
    ],
)
def test_a_user_error_is_one_line(folder, arguments, message, capsys, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "tasks.jsonl").touch()
    assert run(["journal", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
