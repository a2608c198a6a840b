"""How good generated images are, with a standard error: judged by the small classifier that ships, or by a user's own.

The Fréchet distance of two sets of images is that of the Gaussians with their features' means and covariances,
``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` (Heusel et al. 2017, there with Inception's features). A profile wants a
quality in [0, 1], and gets

    ``Q = F_half / (F_half + FD)``

where ``F_half`` is the distance of real images shrunk to half their height and width and enlarged again (28x28
seen as 14x14): such images have quality 1/2, real ones have 1. It is the same for every model, so that their curves
compare. Where the distance falls with the steps as ``floor + A k^-s``, this is exactly the profile's curve
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
GROUPS = 10  # of images, left out one at a time for the standard error
SHRINK = 2  # times in height and width: an image that has quality 1/2
ROWS = 256  # images that the classifier sees at once


@dataclass(frozen=True)
class Score:
    """A quality in [0, 1], its standard error, the sample size, and what it was made of: name -> (value, error)."""

    value: float
    standard_error: float
    n: int
    parts: Mapping[str, tuple[float, float]] = field(default_factory=dict)


class Scorer(Protocol):
    """Judges generated images; users name their own as ``module:Class``."""

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> Score:
        """The score of uint8 images (H, W) or (H, W, 3), each made for the prompt at its place."""


@dataclass(frozen=True)
class Gaussian:
    """Mean (d,) and covariance (d, d) of features, float64."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Gaussian:
        """Of features (n, d), n >= 2."""
        values = np.asarray(features, np.float64)
        return cls(values.mean(axis=0), np.cov(values, rowvar=False))

    def root(self) -> np.ndarray:
        """The symmetric square root of the covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """The Fréchet distance; ``tr (C1 C2)^(1/2)`` from the eigenvalues of ``C1^(1/2) C2 C1^(1/2)``."""
    root = one.root()
    values = np.linalg.eigvalsh(root @ other.covariance @ root)
    shared = np.sqrt(np.clip(values, 0.0, None)).sum()
    offset = one.mean - other.mean
    return float(offset @ offset + np.trace(one.covariance) + np.trace(other.covariance) - 2.0 * shared)


def jackknife(statistic: Callable[[np.ndarray], float], features: np.ndarray, groups: int = GROUPS) -> float:
    """Standard error of ``statistic(features)``, features (n, d), by leaving out one of ``groups`` blocks at a time."""
    blocks = np.array_split(np.arange(len(features)), groups)
    without = [statistic(np.delete(features, block, axis=0)) for block in blocks]
    return float(np.sqrt((groups - 1) * np.var(without)))


class Classifier:
    """The shipped network: images -> features and class logits. Raises ``UserError`` where its files are not sound."""

    def __init__(self, folder: Path = CLASSIFIER, threads: int = 1):
        self.classes = tuple(read_card(folder / CARD)["classes"])
        self.session = open_session(folder / GRAPH, threads)

    def see(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (n, 28, 28) -> features (n, 64) and logits (n, classes), float64."""
        seen = [
            self.session.run(["features", "logits"], {"sample": to_model(images[at : at + ROWS])})
            for at in range(0, len(images), ROWS)
        ]
        features, logits = (np.concatenate(part).astype(np.float64) for part in zip(*seen, strict=True))
        return features, logits


@dataclass(frozen=True)
class Reference:
    """What real held-out images look like to the classifier, and the two distances that give the scale."""

    real: Gaussian
    floor: float  # distance of the real training images: what a perfect model would have
    half_distance: float  # distance of the training images shrunk SHRINK times: where quality is 1/2

    def quality(self, distance: float) -> float:
        return self.half_distance / (self.half_distance + max(distance, 0.0))


def write_reference(train: ImageSet, test: ImageSet, folder: Path) -> Reference:
    """Measure real images with the classifier in a folder and keep the statistics beside it."""
    classifier = Classifier(folder)
    real = Gaussian.of(classifier.see(test.images)[0])
    distances = [
        frechet_distance(Gaussian.of(classifier.see(images)[0]), real)
        for images in (train.images, shrunk(train.images))
    ]
    reference = Reference(real, *distances)
    values = {"mean": real.mean, "covariance": real.covariance, "distances": np.array(distances)}
    write_bytes(folder / REFERENCE, save(values, {"images": str(len(test.images))}))
    return reference


def shrunk(images: np.ndarray, times: int = SHRINK) -> np.ndarray:
    """uint8 (n, H, W), H and W multiples of ``times``: each block of that side replaced by its mean."""
    n, height, width = images.shape
    blocks = images.reshape(n, height // times, times, width // times, times).mean(axis=(2, 4))
    return np.rint(blocks).astype(np.uint8).repeat(times, axis=1).repeat(times, axis=2)


def load_reference(folder: Path) -> Reference:
    """Raises ``UserError`` where the statistics are not there or not sound."""
    path = folder / REFERENCE
    try:
        with safe_open(path, framework="np") as file:
            mean, covariance, distances = (file.get_tensor(name) for name in ("mean", "covariance", "distances"))
        floor, half_distance = map(float, distances)
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); install edgebrush again") from None
    return Reference(Gaussian(mean, covariance), floor, half_distance)


class ClassifierScorer:
    """The built-in scorer: Fréchet distance and class agreement of 28x28 images of the classes it was trained on.

    The distance of few images is biased upward, in proportion to 1/n: compare models at the same n alone.
    """

    def __init__(self, folder: Path = CLASSIFIER):
        self.classifier = Classifier(folder)
        self.reference = load_reference(folder)

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> Score:
        """Order the prompts so that each tenth of them has all classes: the jackknife leaves out a tenth at a time.

        Raises ``UserError`` for too few images, other sizes, or a class that the classifier does not know.
        """
        if len(images) < 2 * GROUPS:
            raise UserError(f"samples = {len(images)}: too few for a standard error; give at least {2 * GROUPS}")
        if images[0].shape != (28, 28):
            raise UserError(
                f"images of shape {images[0].shape}: the built-in scorer judges 28x28 grey images; "
                "give your own with --scorer module:Class"
            )
        labels = self.labels(prompts)
        features, logits = self.classifier.see(np.stack(images))
        half = self.reference.half_distance

        def distance(of: np.ndarray) -> float:
            return frechet_distance(Gaussian.of(of), self.reference.real)

        found, error = distance(features), jackknife(distance, features)
        agreement = float(np.mean(logits.argmax(axis=1) == labels))
        n = len(images)
        parts = {
            "frechet_distance": (found, error),
            "class_agreement": (agreement, float(np.sqrt(agreement * (1.0 - agreement) / n))),
        }
        return Score(self.reference.quality(found), half / (half + max(found, 0.0)) ** 2 * error, n, parts)

    def labels(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The classes asked for, (n,)."""
        numbers = {name: number for number, name in enumerate(self.classifier.classes)}
        unknown = next((prompt.text for prompt in prompts if prompt.text not in numbers), None)
        if unknown is not None:
            raise UserError(f"class = {unknown!r}: the classifier knows {', '.join(numbers)}; give one of these")
        return np.array([numbers[prompt.text] for prompt in prompts])


def load_scorer(name: str) -> Scorer:
    """The user's scorer: ``module:Class``, made without arguments. Raises ``UserError`` where there is none."""
    module, _, attribute = name.partition(":")
    try:
        scorer = getattr(importlib.import_module(module), attribute)()
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"scorer = {name!r}: {error}; give module:Class of a class made without arguments") from None
    if not callable(getattr(scorer, "score", None)):
        raise UserError(f"scorer = {name!r}: has no method score(images, prompts)")
    return scorer
