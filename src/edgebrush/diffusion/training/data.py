"""Image data sets for training and scoring: the MNIST file format, or a folder of PNGs with a sub-folder per class."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgebrush.diffusion.images import SIDE, to_model
from edgebrush.errors import UserError

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # of Debian's dataset-fashion-mnist
FASHION_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
SPLITS = {"train": "train", "test": "t10k"}  # split -> prefix of the MNIST files
HELD_OUT = 10  # in a folder of PNGs, every tenth image of a class is in the test split
HEADER = {"images": 16, "labels": 8}  # bytes before the data (magic number and sizes)


@dataclass(frozen=True)
class ImageSet:
    """Grey images (n, 28, 28) uint8, their labels (n,) int64, and the names of the classes."""

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def scaled(self) -> np.ndarray:
        """Return the images as a model takes them: (n, 1, 28, 28) float32 in [-1, 1]."""
        return to_model(self.images)


def load_images(path: Path = FASHION_MNIST, split: str = "train") -> ImageSet:
    """Load the train or test split of a data set. Raises ``UserError`` if it is missing or damaged."""
    if not path.is_dir():
        raise UserError(
            f"data = {str(path)!r}: no such folder; install Debian's dataset-fashion-mnist (`apt-get install "
            "dataset-fashion-mnist`), or use a folder with a sub-folder of PNGs per class"
        )
    if (path / f"{SPLITS[split]}-images-idx3-ubyte.gz").exists():
        return load_mnist(path, SPLITS[split])
    return load_folder(path, split)


def load_mnist(path: Path, prefix: str) -> ImageSet:
    """Load a split from gzipped MNIST files."""
    images = read_idx(path / f"{prefix}-images-idx3-ubyte.gz", "images").reshape(-1, SIDE, SIDE)
    labels = read_idx(path / f"{prefix}-labels-idx1-ubyte.gz", "labels").astype(np.int64)
    if len(images) != len(labels):
        raise UserError(f"data = {str(path)!r}: {len(images)} images but {len(labels)} labels; use the original files")
    names = FASHION_CLASSES if "fashion" in path.name else tuple(str(n) for n in range(int(labels.max()) + 1))
    return ImageSet(images, labels, names)


def read_idx(path: Path, kind: str) -> np.ndarray:
    """Return the bytes of a gzipped MNIST file after its header."""
    try:
        with gzip.open(path) as file:
            values = np.frombuffer(file.read(), np.uint8, offset=HEADER[kind])
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a gzipped MNIST file: {error}; use the original file") from None
    if kind == "images" and len(values) % SIDE**2:
        raise UserError(f"{path}: its size is not a multiple of {SIDE}x{SIDE} images; use the original file")
    return values


def load_folder(path: Path, split: str) -> ImageSet:
    """Load PNGs of any size, a sub-folder per class, as 28x28 grey; every tenth image is in the test split."""
    from PIL import Image, UnidentifiedImageError

    classes = tuple(sorted(folder.name for folder in path.iterdir() if any(folder.glob("*.png"))))
    if not classes:
        raise UserError(f"data = {str(path)!r}: has neither MNIST files nor sub-folders of .png files")
    images, labels = [], []
    for label, name in enumerate(classes):
        for number, file in enumerate(sorted((path / name).glob("*.png"))):
            if (number % HELD_OUT == HELD_OUT - 1) == (split == "test"):
                try:
                    images.append(np.asarray(Image.open(file).convert("L").resize((SIDE, SIDE))))
                except (UnidentifiedImageError, OSError):
                    raise UserError(f"{file}: not a readable PNG; remove or replace it") from None
                labels.append(label)
    if not images:
        raise UserError(f"data = {str(path)!r}: no images for the {split} split; each class needs at least {HELD_OUT}")
    return ImageSet(np.stack(images), np.array(labels, np.int64), classes)
