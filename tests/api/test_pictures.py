"""Image files in the format that a request asks for."""

import io

import numpy as np
import pytest
from PIL import Image

from edgebrush.api.pictures import convert, encode, inspect
from edgebrush.api.schema import ImageRequest

GREY = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60), np.uint8))


def request(**fields):
    return ImageRequest(prompt="x", **fields)


def opened(content):
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_every_mode_is_written_in_every_format(mode, format):
    content = encode(
        GREY.convert("I").convert(mode) if mode == "I;16" else GREY.convert(mode), request(output_format=format)
    )
    assert opened(content).format == format.upper() and opened(content).size == (60, 40)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_a_lower_compression_level_is_a_smaller_file(format):
    sizes = [len(encode(GREY, request(output_format=format, output_compression=level))) for level in (0, 50, 100)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]
    assert len(encode(GREY, request(output_format=format))) == sizes[2]


def test_a_file_is_converted_and_described():
    png = encode(GREY, request())
    webp = convert(png, request(output_format="webp"))
    assert inspect(png) == ("png", "60x40") and inspect(webp) == ("webp", "60x40")
    assert inspect(convert(webp, request(output_format="jpeg"))) == ("jpeg", "60x40")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", encode(GREY, request())[:300], b"RIFF" + bytes(40)])
def test_what_cannot_be_read_is_a_value_error(content):
    with pytest.raises(ValueError, match="cannot be read"):
        convert(content, request(output_format="jpeg"))
