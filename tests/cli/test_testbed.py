"""`edgebrush testbed` from outside: help that teaches, and mistakes in one line before anything is started."""

import pytest

from edgebrush.cli.main import run


def test_help_teaches(capsys):
    assert run(["testbed", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--against-sim" in said and "edgebrush testbed --live-port 8200" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["campus"], "campus: radio.fading: link rates must be constant; set none"),
        (["testbed", "--policies", " , "], "policies = ' , ': empty"),
        (["testbed", "--policies", "priced"], "policy 'priced': neither a folder of a trained policy nor a rule"),
        (["testbed", "--fault", "rain"], "fault = 'rain': there are kill-bs, freeze-bs"),
        (["testbed", "--out", "."], "out = '"),
        (["testbed", "--seconds", "0"], "Invalid value for '--seconds'"),
        (["nowhere"], "scenario 'nowhere' is not there"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["testbed", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.strip().count("\n") == 0
    assert not [path for path in tmp_path.rglob("*") if path.name != "runs"]
