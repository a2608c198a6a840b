"""Quality by the Fréchet distance to real images, in the features of Inception V3 (FID) or of CLIP.

Needs the extra ``[diffusers]``. Nothing is downloaded: the network is a local file or folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from edgebrush.diffusion.backend import Prompt
from edgebrush.errors import UserError

from .image_files import as_rgb, coarsen
from .quality import Gaussian, Score, check_enough, frechet_distance, jackknife, quality_at, quality_error

BATCH = 32  # images per evaluation of the network
COARSE = 8  # factor in height and width that gives quality 1/2
ROUNDING = 1e-6  # a distance is zero below this share of the features' variance


class FeatureExtractor(Protocol):
    """A network from images to features."""

    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features (n, d), float64, of n uint8 images of one size."""


class Inception:
    """Inception V3 as a TorchScript file: ``inception-2015-12-05.pt``, as StyleGAN's authors publish it.

    It is a translation of the network of Heusel et al. (2017), and resizes the images itself. Raises ``UserError`` for
    a file that is none, or that does not take ``return_features=True``.
    """

    def __init__(self, file: Path, device: str):
        self.device = device
        load: Any = torch.jit.load
        try:
            self.network = load(str(file), map_location=device).eval()
            self.evaluate(torch.zeros(2, 3, 299, 299, dtype=torch.uint8))
        except (OSError, RuntimeError, ValueError, AttributeError) as error:
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"inception = {str(file)!r}: not a TorchScript network that returns features ({first_line}); "
                "give inception-2015-12-05.pt as StyleGAN's authors publish it"
            ) from None

    @torch.no_grad()
    def evaluate(self, images: Tensor) -> Tensor:
        """Return the features (n, d), float64, of images (n, 3, H, W), uint8. Raises ``ValueError``."""
        features: Tensor = self.network(images.to(self.device), return_features=True)
        if features.ndim != 2 or len(features) != len(images):
            raise ValueError(f"the output has shape {tuple(features.shape)}")
        return features.double().cpu()

    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features (n, d), float64, of n uint8 images of one size."""
        batches = [
            np.stack([as_rgb(image) for image in images[at : at + BATCH]]) for at in range(0, len(images), BATCH)
        ]
        rows = [self.evaluate(torch.from_numpy(batch).permute(0, 3, 1, 2)) for batch in batches]
        features: np.ndarray = torch.cat(rows).numpy()
        return features


def fid(real: np.ndarray, generated: np.ndarray) -> float:
    """Return torchmetrics' Fréchet distance between features (m, d) and (n, d)."""
    network: Any = torch.nn.Identity()  # the features are computed once for several distances
    network.num_features = real.shape[1]
    metric = FrechetInceptionDistance(feature=network)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(generated), real=False)
    return float(metric.compute())


class FidScorer:
    """Quality = F / (F + distance). F is the distance of the real images shrunk by ``COARSE`` and enlarged again.

    So images without errors have a quality of almost 1, and a blur that leaves 1/64 of the pixels has 1/2. The distance
    is biased upward in proportion to 1/n for n images: compare models only at the same n and the same real images.
    """

    def __init__(self, extractor: FeatureExtractor, real: Sequence[np.ndarray], part: str):
        """``real`` are images of the size of the generated ones; ``part`` names the distance in the table of points.

        Raises ``UserError`` for too few images, or images that are the same after shrinking.
        """
        check_enough(len(real), "reference")
        self.extractor, self.part = extractor, part
        self.real = extractor.features(real)
        self.gaussian = Gaussian.of(self.real)
        self.half_distance = fid(self.real, extractor.features([coarsen(image, COARSE) for image in real]))
        if self.half_distance < ROUNDING * np.trace(self.gaussian.covariance):
            raise UserError("reference: the images have no detail; give photographs of what the prompts describe")

    def score(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt]) -> Score:
        """Score images. Raises ``UserError`` for too few."""
        check_enough(len(images))
        features = self.extractor.features(images)
        value = fid(self.real, features)
        # The same distance, but ten times as fast as the library's: the jackknife needs many.
        error = jackknife(lambda of: frechet_distance(Gaussian.of(of), self.gaussian), features)
        quality = quality_at(value, self.half_distance)
        return Score(quality, quality_error(value, error, self.half_distance), len(images), {self.part: (value, error)})
