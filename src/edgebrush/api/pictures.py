"""Image files in the format that a request asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from .schema import OpenAiFields, OutputFormat

MEDIA_TYPES: dict[OutputFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
DEFAULT_COMPRESSION = 100  # as at OpenAI


def output_format(request: OpenAiFields) -> OutputFormat:
    return request.output_format or "png"


def encode(picture: Image.Image, request: OpenAiFields) -> bytes:
    """The image file that a request asks for, by ``output_format`` and ``output_compression``."""
    file, format = BytesIO(), output_format(request)
    if format == "png":
        picture.save(file, "PNG")
    else:
        quality = DEFAULT_COMPRESSION if request.output_compression is None else request.output_compression
        picture = picture if picture.mode == "L" and format == "jpeg" else picture.convert("RGB")
        picture.save(file, format.upper(), quality=quality)
    return file.getvalue()


def inspect(image: bytes) -> tuple[str, str]:
    """The format of an image file, e.g. ``png``, and its size, by its head. Raises ``ValueError``."""
    with opened(image) as picture:
        return str(picture.format).lower(), size_of(picture)


def convert(image: bytes, request: OpenAiFields) -> bytes:
    """An image file in the format that a request asks for. Raises ``ValueError`` where it cannot be read."""
    with opened(image) as picture:
        return encode(picture, request)


@contextmanager
def opened(image: bytes) -> Iterator[Image.Image]:
    """An image file. Raises ``ValueError`` where it cannot be read, also while it is used."""
    try:
        with Image.open(BytesIO(image)) as picture:
            yield picture
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError(f"the image cannot be read: {error}") from None


def size_of(picture: Image.Image) -> str:
    """Width and height in OpenAI's notation, e.g. ``28x28``."""
    return f"{picture.width}x{picture.height}"
