"""`edgebrush gdm train`: a user error is one line and leaves nothing behind; tests/diffusion tests the training."""

import pytest

from edgebrush.cli.main import run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["huge"], "huge"),
        (["light", "--data", "nowhere"], "data = 'nowhere': no such folder; install Debian's dataset-fashion-mnist"),
        (["light", "--images", "1"], "--images"),
        (["light", "--step-size", "nan"], "--step-size"),
    ],
)
def test_a_user_error_is_one_line_and_leaves_nothing_behind(tmp_path, capsys, arguments, message):
    assert run(["gdm", "train", *arguments, "--out", str(tmp_path / "gdm")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
