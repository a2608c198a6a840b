"""Real images from a folder, as a reference for generated ones of one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from edgebrush.errors import UserError

FORMATS = (".png", ".jpg", ".jpeg", ".webp")


def read_images(folder: Path, size: tuple[int, int]) -> list[np.ndarray]:
    """Read all images below a folder as uint8 (H, W, 3), cropped at the centre and resized to (width, height).

    Raises ``UserError`` if there is no such folder, or one of the images cannot be read.
    """
    if not folder.is_dir():
        raise UserError(
            f"reference = {str(folder)!r}: no such folder; give one with real images ({', '.join(FORMATS)})"
        )
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FORMATS)
    return [read_image(path, size) for path in paths]


def read_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read one image. Raises ``UserError``."""
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS))
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(f"reference: {path} cannot be read as an image ({error}); remove or repair it") from None


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W) or (H, W, 3) as (H, W, 3)."""
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def coarsen(image: np.ndarray, factor: int) -> np.ndarray:
    """Shrink an image (H, W, 3) by a factor in height and width, and enlarge it again: what is left is blurred."""
    picture = Image.fromarray(image)
    small = picture.resize([max(1, side // factor) for side in picture.size], Image.Resampling.BOX)
    return np.asarray(small.resize(picture.size, Image.Resampling.BICUBIC))
