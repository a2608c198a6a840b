"""Data sets are read from the MNIST format and from folders of PNGs; conversions to model values and back."""

import gzip

import numpy as np
import pytest
from PIL import Image

from edgebrush.diffusion.images import to_model, to_pixels
from edgebrush.diffusion.training.data import load_folder, load_images
from edgebrush.errors import UserError


def write_mnist(folder, prefix, images, labels):
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz", "wb") as file:
        file.write(b"\0" * 16 + images.tobytes())
    with gzip.open(folder / f"{prefix}-labels-idx1-ubyte.gz", "wb") as file:
        file.write(b"\0" * 8 + labels.tobytes())


def test_conversion_to_model_values_and_back_keeps_the_pixels():
    images = np.arange(256, dtype=np.uint8).repeat(49).reshape(16, 28, 28)
    assert np.array_equal(to_pixels(to_model(images)), images)
    assert to_pixels(np.full((1, 1, 28, 28), 7.0)).max() == 255  # clipped


def test_mnist_files_are_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    write_mnist(tmp_path / "mnist", "train", images, np.array([2, 0, 1], np.uint8))
    loaded = load_images(tmp_path / "mnist")
    assert np.array_equal(loaded.images, images)
    assert loaded.labels.tolist() == [2, 0, 1] and loaded.classes == ("0", "1", "2")


def test_every_tenth_png_of_a_class_is_held_out(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(20):
            Image.new("RGB", (56, 56), (number,) * 3).save(tmp_path / name / f"{number:02}.png")
    train, test = load_folder(tmp_path, "train"), load_folder(tmp_path, "test")
    assert (len(train.images), len(test.images)) == (36, 4)
    assert test.images[:, 0, 0].tolist() == [9, 19, 9, 19] and train.classes == ("cat", "dog")


def test_missing_and_damaged_data_is_reported(tmp_path):
    with pytest.raises(UserError, match="apt-get install dataset-fashion-mnist"):
        load_images(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has neither MNIST files nor sub-folders"):
        load_images(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="cannot be read as a gzipped MNIST file"):
        load_images(tmp_path)
