"""Score generated images with a standard error: by the classifier that ships, or by a user's scorer.

The Fréchet distance of two sets of images is that of Gaussians with the means and covariances of their features,
``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` (Heusel et al. 2017, there with Inception's features). A profile needs a
quality in [0, 1]:

    ``Q = F_half / (F_half + FD)``

where ``F_half`` is the distance of real images shrunk to half their height and width and enlarged again (28x28
reduced to 14x14). Such images have quality 1/2, real ones 1. ``F_half`` is the same for every model, so their curves
are comparable. If the distance falls with the steps as ``floor + A k^-s``, this is exactly the profile's curve
``ceiling / (1 + (half_steps/k)^s)``, with ``ceiling = F_half / (F_half + floor)``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.images import to_model
from edgebrush.diffusion.onnx import CARD, GRAPH, WEIGHTS, open_session, read_card
from edgebrush.diffusion.training.data import ImageSet
from edgebrush.errors import UserError
from edgebrush.files import write_bytes

CLASSIFIER = WEIGHTS / "classifier"
REFERENCE = "reference.safetensors"
GROUPS = 10  # of images; the jackknife leaves out one at a time
SHRINK = 2  # factor in height and width that gives quality 1/2
BATCH = 256  # images per evaluation of the classifier


@dataclass(frozen=True)
class Score:
    """A quality in [0, 1], its standard error, the number of images, and its components: name -> (value, error)."""

    value: float
    standard_error: float
    n: int
    parts: Mapping[str, tuple[float, float]] = field(default_factory=dict)


class Scorer(Protocol):
    """Scores generated images; users name their own as ``module:Class``."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> Score:
        """Score uint8 images (H, W) or (H, W, 3); each was generated for the prompt at the same index."""


@dataclass(frozen=True)
class Gaussian:
    """Mean (d,) and covariance (d, d) of features, float64."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Gaussian:
        """Estimate the Gaussian of features (n, d), n >= 2."""
        values = np.asarray(features, np.float64)
        return cls(values.mean(axis=0), np.cov(values, rowvar=False))

    def root(self) -> np.ndarray:
        """Return the symmetric square root of the covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        root: np.ndarray = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
        return root


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Return the Fréchet distance; ``tr (C1 C2)^(1/2)`` from the eigenvalues of ``C1^(1/2) C2 C1^(1/2)``."""
    root = one.root()
    values = np.linalg.eigvalsh(root @ other.covariance @ root)
    cross = np.sqrt(np.clip(values, 0.0, None)).sum()
    offset = one.mean - other.mean
    return float(offset @ offset + np.trace(one.covariance) + np.trace(other.covariance) - 2.0 * cross)


def jackknife(statistic: Callable[[np.ndarray], float], features: np.ndarray, groups: int = GROUPS) -> float:
    """Return the standard error of ``statistic(features)`` by the delete-a-group jackknife; features (n, d)."""
    blocks = np.array_split(np.arange(len(features)), groups)
    left_out = [statistic(np.delete(features, block, axis=0)) for block in blocks]
    return float(np.sqrt((groups - 1) * np.var(left_out)))


def quality_at(distance: float, half_distance: float) -> float:
    """Return the quality in [0, 1] at a distance: 1 at 0, 1/2 at ``half_distance``."""
    return half_distance / (half_distance + max(distance, 0.0))


def quality_error(distance: float, error: float, half_distance: float) -> float:
    """Return the standard error of ``quality_at`` for a distance with a standard error."""
    return half_distance / (half_distance + max(distance, 0.0)) ** 2 * error


def check_enough(count: int, field: str = "samples") -> None:
    """Raise ``UserError`` if there are too few images for a jackknife over ``GROUPS`` groups."""
    if count < 2 * GROUPS:
        raise UserError(f"{field} = {count} images: too few for a standard error; use at least {2 * GROUPS}")


class Classifier:
    """The shipped classifier: images -> features and class logits. Raises ``UserError`` for damaged files."""

    def __init__(self, folder: Path = CLASSIFIER, threads: int = 1):
        self.classes = tuple(read_card(folder / CARD)["classes"])
        self.session = open_session(folder / GRAPH, threads)

    def classify(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the features (n, 64) and logits (n, classes), float64, of uint8 images (n, 28, 28)."""
        batches = [
            self.session.run(["features", "logits"], {"sample": to_model(images[at : at + BATCH])})
            for at in range(0, len(images), BATCH)
        ]
        features, logits = (np.concatenate(part).astype(np.float64) for part in zip(*batches, strict=True))
        return features, logits


@dataclass(frozen=True)
class Reference:
    """Statistics of real held-out images in the classifier's features, and the distances that set the scale."""

    real: Gaussian
    floor: float  # distance of the real training images: that of a perfect model
    half_distance: float  # distance of the training images shrunk by SHRINK: quality 1/2


def write_reference(train: ImageSet, test: ImageSet, folder: Path) -> Reference:
    """Compute the statistics of real images with the classifier in a folder, and write them to that folder."""
    classifier = Classifier(folder)
    real = Gaussian.of(classifier.classify(test.images)[0])
    distances = [
        frechet_distance(Gaussian.of(classifier.classify(images)[0]), real)
        for images in (train.images, shrink(train.images))
    ]
    reference = Reference(real, *distances)
    values = {"mean": real.mean, "covariance": real.covariance, "distances": np.array(distances)}
    write_bytes(folder / REFERENCE, save(values, {"images": str(len(test.images))}))
    return reference


def shrink(images: np.ndarray, factor: int = SHRINK) -> np.ndarray:
    """Replace each ``factor`` x ``factor`` block of uint8 images (n, H, W) by its mean; ``factor`` divides H and W."""
    n, height, width = images.shape
    means = images.reshape(n, height // factor, factor, width // factor, factor).mean(axis=(2, 4))
    blocks: np.ndarray = np.rint(means).astype(np.uint8)
    return blocks.repeat(factor, axis=1).repeat(factor, axis=2)


def load_reference(folder: Path) -> Reference:
    """Read the statistics in a classifier's folder. Raises ``UserError`` if they are missing or damaged."""
    path = folder / REFERENCE
    try:
        with safe_open(path, framework="np") as file:
            mean, covariance, distances = (file.get_tensor(name) for name in ("mean", "covariance", "distances"))
        floor, half_distance = map(float, distances)
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); install edgebrush again") from None
    return Reference(Gaussian(mean, covariance), floor, half_distance)


class ClassifierScorer:
    """The built-in scorer: Fréchet distance and class agreement of 28x28 images of the classifier's classes.

    The distance is biased upward in proportion to 1/n for n images: compare models only at the same n.
    """

    def __init__(self, folder: Path = CLASSIFIER):
        self.classifier = Classifier(folder)
        self.reference = load_reference(folder)

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> Score:
        """Score images. Each tenth of the prompts should contain all classes: the jackknife leaves out tenths.

        Raises ``UserError`` for too few images, another image size, or an unknown class.
        """
        check_enough(len(images))
        if images[0].shape != (28, 28):
            raise UserError(
                f"images of shape {images[0].shape}: the built-in scorer accepts 28x28 grey images; "
                "use your own with --scorer module:Class"
            )
        labels = self.labels(prompts)
        features, logits = self.classifier.classify(np.stack(images))
        half = self.reference.half_distance

        def distance(of: np.ndarray) -> float:
            return frechet_distance(Gaussian.of(of), self.reference.real)

        value, error = distance(features), jackknife(distance, features)
        agreement = float(np.mean(logits.argmax(axis=1) == labels))
        n = len(images)
        parts = {
            "frechet_distance": (value, error),
            "class_agreement": (agreement, float(np.sqrt(agreement * (1.0 - agreement) / n))),
        }
        return Score(quality_at(value, half), quality_error(value, error, half), n, parts)

    def labels(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """Return the labels (n,) of the prompts' classes. Raises ``UserError`` for an unknown class."""
        numbers = {name: number for number, name in enumerate(self.classifier.classes)}
        unknown = next((prompt.text for prompt in prompts if prompt.text not in numbers), None)
        if unknown is not None:
            raise UserError(f"class = {unknown!r}: the classifier knows {', '.join(numbers)}; use one of these")
        return np.array([numbers[prompt.text] for prompt in prompts])


def load_scorer(name: str) -> Scorer:
    """Create a user's scorer from ``module:Class``, without arguments. Raises ``UserError`` if that fails."""
    module, _, attribute = name.partition(":")
    try:
        scorer: Scorer = getattr(importlib.import_module(module), attribute)()
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"scorer = {name!r}: {error}; use module:Class of a class without required arguments") from None
    if not callable(getattr(scorer, "score", None)):
        raise UserError(f"scorer = {name!r}: it has no method score(images, prompts); add one")
    return scorer
