"""`edgebrush testbed` as a command: help with examples, user errors in one line before any process starts."""

import pytest

from edgebrush.cli.main import run


def test_help_has_examples(capsys):
    assert run(["testbed", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--against-sim" in text and "edgebrush testbed --live-port 8200" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["campus"], "campus: radio.fading: link rates must be constant; set none"),
        (["testbed", "--policies", " , "], "policies = ' , ': empty"),
        (["testbed", "--policies", "priced"], "policy 'priced': neither a folder of a trained policy nor a rule"),
        (["testbed", "--fault", "rain"], "fault = 'rain': there are kill-bs, freeze-bs"),
        (["testbed", "--out", "."], "out = '"),
        (["testbed", "--seconds", "0"], "Invalid value for '--seconds'"),
        (["nowhere"], "scenario 'nowhere' does not exist"),
    ],
)
def test_a_user_error_is_one_line_and_leaves_nothing(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["testbed", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0
    assert not [path for path in tmp_path.rglob("*") if path.name != "runs"]
