"""`edgebrush ue` as a command: help with examples, user errors in one line, task files."""

import csv

import pytest

from edgebrush.cli.main import run
from edgebrush.journal.reader import read_image, read_journal


def test_help_has_examples(capsys):
    assert run(["ue", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--station large=http://127.0.0.1:8001" in text and "curl -s localhost:8100" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["testbed", "--ue", "7"], "ue = 7: testbed has UEs 1 to 6"),
        (["testbed", "--policy", "priced"], "policy 'priced': neither a folder of a trained policy nor a rule"),
        (["testbed", "--station", "huge=http://x"], "station = 'huge': testbed has large, small"),
        (["testbed", "--station", "large"], "station = large=: not an address; give http://HOST:PORT"),
        (["testbed", "--station", "large=http://x:y"], "give http://HOST:PORT"),
        (["testbed", "--model", "huge"], "model = 'huge': neither a shipped model"),
        (["testbed", "--journal", "/proc/none"], "journal = '/proc/none': cannot be written"),
        (["testbed", "--tasks", "none.csv"], "tasks = 'none.csv': cannot be read"),
        (["nowhere"], "scenario 'nowhere' does not exist"),
    ],
)
def test_a_user_error_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["ue", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_rule_without_tuned_parameters_names_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(["scenarios", "show", "testbed"])
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out.replace("name: testbed", "name: mine"))
    assert run(["ue", "mine.yaml", "--policy", "lyapunov"]) == 2
    assert "edgebrush tune" in (error := capsys.readouterr().err) and "mine.rules.json" in error


def write_tasks(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("at_s", "prompt", "request", "seed", "deadline_s"), *rows])


def test_a_task_file_is_completed_once(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(0.1, "bag", "idle", 1, ""), (0.0, "sneaker", "waiting", 2, ""), (0.05, "cat", "idle", 3, "")]
    write_tasks(tmp_path / "tasks.csv", rows)
    for _ in range(2):
        assert run(["ue", "testbed", "--policy", "selfish-greedy", "--tasks", "tasks.csv", "--journal", "j"]) == 0
        assert "2 images, 1 errors: j" in capsys.readouterr().out
    lines = read_journal(tmp_path / "j")
    accepted = [line["task"] for line in lines if line["event"] == "accepted"]
    assert accepted == ["row-2", "row-3", "row-1"]  # by time, once
    assert sum(line["event"] == "ended" for line in lines) == 3
    assert read_image(tmp_path / "j", "row-1").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((-1, "bag", "idle", 1, ""), "row 1: at_s, seed and deadline_s must be positive numbers"),
        (("nan", "bag", "idle", 1, ""), "row 1: at_s"),
        ((0, "bag", "lazy", 1, ""), "row 1: request = 'lazy': the scenario has waiting, browsing, idle"),
        ((0, "bag", "idle", "x", ""), "row 1: invalid literal"),
        ((0, "bag"), "row 1: "),
    ],
)
def test_an_invalid_row_is_named(row, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tasks(tmp_path / "tasks.csv", [row])
    assert run(["ue", "testbed", "--tasks", "tasks.csv"]) == 2
    assert message in (error := capsys.readouterr().err) and error.count("\n") == 1
