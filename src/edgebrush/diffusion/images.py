"""Images as a model has them (floats in [-1, 1]), as pixels (uint8), and as PNG files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from edgebrush.files import write_bytes

SIDE = 28  # pixels


def to_model(images: np.ndarray) -> np.ndarray:
    """uint8 (n, 28, 28) -> float32 (n, 1, 28, 28) in [-1, 1]."""
    return images[:, None].astype(np.float32) / 127.5 - 1.0


def to_pixels(samples: np.ndarray) -> np.ndarray:
    """float (n, 1, 28, 28) -> uint8 (n, 28, 28), values outside [-1, 1] clipped."""
    return np.clip(np.rint((samples[:, 0] + 1.0) * 127.5), 0, 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """Pixels (H, W) or (H, W, 3), uint8, as a PNG file."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def save_image(pixels: np.ndarray, path: Path) -> None:
    """Pixels (H, W) or (H, W, 3), uint8, as a PNG. Raises ``UserError`` where it cannot be written."""
    write_bytes(path, png(pixels))
