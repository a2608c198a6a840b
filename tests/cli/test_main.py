"""The command line itself: quick help with examples, the version, Ctrl-C, the verbs that only print."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import edgebrush
from edgebrush.cli import main, scenarios
from edgebrush.cli.main import run
from edgebrush.profiles.catalogue import catalogue_names
from edgebrush.scenario.presets import PRESETS, preset_names

HEAVY = {"jax", "numba", "matplotlib", "scipy", "pydantic", "yaml"}


@pytest.mark.process
def test_help_imports_nothing_heavy():
    code = "import sys; from edgebrush.cli.main import run; run(['--help']); print(*sys.modules)"
    source = str(Path(edgebrush.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert HEAVY.isdisjoint(done.stdout.splitlines()[-1].split())


def test_help_has_examples(capsys):
    assert run([]) == 0
    alone = capsys.readouterr().out
    assert run(["--help"]) == 0
    assert capsys.readouterr().out == alone
    assert "edgebrush scenarios show campus > mine.yaml" in alone


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("edgebrush 0.")


def test_interrupt_is_one_line(capsys, monkeypatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scenarios, "list_presets", interrupted)
    assert run(["scenarios"]) == main.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_a_bug_is_not_reported_as_a_user_error(monkeypatch):
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(scenarios, "list_presets", broken)
    with pytest.raises(ZeroDivisionError):
        run(["scenarios"])


def test_scenarios_lists_every_preset(capsys):
    assert run(["scenarios"]) == 0
    out = capsys.readouterr().out
    for name in preset_names():
        assert f"\n{name} " in out and f"\n{name}: " in out


def test_a_shown_scenario_can_be_checked(capsys, tmp_path):
    assert run(["scenarios", "show", "pair"]) == 0
    mine = tmp_path / "mine.yaml"
    mine.write_text(capsys.readouterr().out)
    assert mine.read_text() == (PRESETS / "pair.yaml").read_text()
    assert yaml.safe_load(mine.read_text())["name"] == "pair"
    assert run(["scenarios", "check", str(mine)]) == 0
    assert "4 UEs, 2 BSs, offered load" in capsys.readouterr().out


def test_profiles_lists_every_profile_and_draws_them(capsys, tmp_path):
    picture = tmp_path / "profiles.png"
    assert run(["profiles", "--plot", str(picture)]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name} " in out for name in catalogue_names())
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [picture]


def test_profiles_show_prints_what_can_be_read_again(capsys, tmp_path):
    assert run(["profiles", "show", "sdxl-a100"]) == 0
    text = capsys.readouterr().out
    assert "ML.ENERGY" in json.loads(text)["compute"]["source"]
    (tmp_path / "mine.json").write_text(text)
    assert run(["profiles", "show", str(tmp_path / "mine.json")]) == 0
    assert capsys.readouterr().out == text
