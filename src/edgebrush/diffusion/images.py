"""Convert images between model values (floats in [-1, 1]), pixels (uint8) and PNG files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from edgebrush.files import write_bytes

SIDE = 28  # pixels; height and width of the shipped models' images


def to_model(pixels: np.ndarray) -> np.ndarray:
    """Convert uint8 (n, 28, 28) to float32 (n, 1, 28, 28) in [-1, 1]."""
    return pixels[:, None].astype(np.float32) / 127.5 - 1.0


def to_pixels(samples: np.ndarray) -> np.ndarray:
    """Convert float (n, 1, 28, 28) to uint8 (n, 28, 28); values outside [-1, 1] are clipped."""
    return np.clip(np.rint((samples[:, 0] + 1.0) * 127.5), 0, 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """Encode pixels (H, W) or (H, W, 3), uint8, as a PNG file."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def save_image(pixels: np.ndarray, path: Path) -> None:
    """Write pixels (H, W) or (H, W, 3), uint8, to a PNG file. Raises ``UserError`` if it cannot be written."""
    write_bytes(path, png(pixels))
