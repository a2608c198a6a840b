"""`edgebrush generate`: the sheet of images; a user error is one line and leaves nothing behind."""

import numpy as np
import pytest
from PIL import Image

from edgebrush.cli.main import run


def test_a_sheet_has_one_row_per_class_and_its_images_are_independent(tmp_path):
    sheet, alone = tmp_path / "sheet.png", tmp_path / "alone.png"
    options = ["--model", "light", "--steps", "2", "--scale", "1", "--seed", "5"]
    assert run(["generate", *options, "--count", "3", "--out", str(sheet)]) == 0
    assert run(["generate", *options, "--class", "bag", "--out", str(alone)]) == 0
    pixels, bag = np.asarray(Image.open(sheet)).astype(int), np.asarray(Image.open(alone)).astype(int)
    assert pixels.shape == (280, 84) and bag.shape == (28, 28)
    assert np.abs(pixels[8 * 28 : 9 * 28, :28] - bag).max() <= 1  # the ninth class, the first seed
    assert np.abs(pixels[8 * 28 : 9 * 28, 28:56] - bag).max() > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class", "cat"], "class = 'cat': heavy knows t-shirt, trouser"),
        (["--model", "huge"], "model = 'huge': neither a shipped model (heavy, light) nor a folder"),
        (["--steps", "0"], "--steps"),
        (["--device", "cuda"], "device = 'cuda', dtype = None: only pipelines have a choice; give --pipeline"),
        (["--prompt", "a red fox"], "prompt: only pipelines have one; give --pipeline, or --class"),
        (["--guidance", "3"], "guidance = 3: heavy was trained without guidance; give --pipeline"),
        (["--size", "64x64"], "size = 64x64: heavy generates 28x28"),
        (["--steps", "2000"], "--steps"),
        (["--sampler", "ddim"], "sampler = 'ddim': heavy predicts velocity; choose one of euler, multistep"),
    ],
)
def test_a_user_error_is_one_line_and_leaves_nothing_behind(tmp_path, capsys, options, message):
    assert run(["generate", *options, "--out", str(tmp_path / "x.png")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_damaged_graph_is_reported(tmp_path, capsys):
    from edgebrush.diffusion.onnx import CARD, GRAPH, WEIGHTS

    (tmp_path / GRAPH).write_bytes((WEIGHTS / "light" / GRAPH).read_bytes()[:5000])
    (tmp_path / CARD).write_text((WEIGHTS / "light" / CARD).read_text())
    assert run(["generate", "--model", str(tmp_path), "--out", str(tmp_path / "x.png")]) == 2
    assert "ONNX Runtime cannot load it" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
