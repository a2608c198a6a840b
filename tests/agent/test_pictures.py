"""Images from BSs are decoded to their end: a damaged one is that BS's failure. The journal keeps PNG files only."""

import asyncio
import base64
import time
from io import BytesIO

import pytest
from PIL import Image

from edgebrush.agent.endpoints import build_stations
from edgebrush.agent.observer import Observer
from edgebrush.agent.stations import INLINE_BYTES
from edgebrush.clients.offload import Offload
from edgebrush.clients.replies import MAX_PIXELS, StationError, as_png, parse_reply
from tests.support.agents import LARGE, SMALL, TESTBED, PreferSlots, generate_all, make_task
from tests.support.fakes import PNG, REPLY, FakeNetwork, FakeStation


def picture(format, mode="RGB", side=64):
    file = BytesIO()
    Image.effect_noise((side, side), 60).convert(mode).save(file, format)
    return file.getvalue()


FILES = {format: picture(format) for format in ("PNG", "JPEG", "WEBP")}
WAVE = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + bytes(24)
DAMAGED = {
    "eight magic bytes": b"\x89PNG\r\n\x1a\n",
    "a WAV in RIFF": WAVE,
    "a GIF": picture("GIF", "L"),
    "text": b"<html>busy</html>",
    "nothing": b"",
    "changed bytes": FILES["PNG"][:600] + bytes(40) + FILES["PNG"][640:],
    **{f"half a {format}": file[: len(file) // 2] for format, file in FILES.items()},
    **{f"a {format} without its last bytes": file[:-3] for format, file in FILES.items()},
}


def reply_with(image):
    return REPLY | {"data": [{"b64_json": base64.b64encode(image).decode()}]}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_image_is_a_failure_of_the_bs(tmp_path, name):
    large = FakeStation()
    large.reply = reply_with(DAMAGED[name])
    stations = {"large": large, "small": FakeStation()}
    [result] = generate_all(tmp_path, PreferSlots(LARGE, SMALL), stations, [make_task("t")])
    assert result.place == "small" and result.attempts == 2 and result.image == PNG


def test_a_large_image_does_not_block_the_event_loop(monkeypatch):
    def slow(body):
        time.sleep(0.5)
        return parse_reply(body)

    async def generate():
        [station] = build_stations(Observer(TESTBED, 0, 1.0), {"large": "http://large"}, FakeNetwork({"large": large}))
        image = asyncio.create_task(station.generate(Offload(make_task("t"), 2, 1, 4e3, 8e3, None), 60.0))
        ticks = 0
        while not image.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return await image, ticks

    monkeypatch.setattr("edgebrush.agent.stations.parse_reply", slow)
    large = FakeStation()
    large.reply = reply_with(picture("PNG", side=400))
    assert len(large.reply["data"][0]["b64_json"]) > INLINE_BYTES
    result, ticks = asyncio.run(generate())
    assert result.image.startswith(b"\x89PNG") and ticks > 5


def test_every_truncation_is_noticed():
    for file in FILES.values():
        for length in {0, 7, 8, 9, 100, *range(0, len(file), 97), *range(len(file) - 12, len(file))}:
            with pytest.raises(StationError, match="image in its reply"):
                as_png(file[:length])


def test_a_png_is_kept_as_it_is():
    assert as_png(FILES["PNG"]) == FILES["PNG"]


@pytest.mark.parametrize(("format", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGBA")])
def test_the_journal_keeps_every_other_format_as_png(tmp_path, format, mode):
    large = FakeStation()
    large.reply = reply_with(picture(format, mode))
    [result] = generate_all(tmp_path, PreferSlots(LARGE), {"large": large}, [make_task("t")])
    with Image.open(BytesIO(result.image)) as kept:
        kept.load()
        assert kept.format == "PNG" and kept.size == (64, 64)


@pytest.mark.parametrize("side", [4200, 15_000])
def test_a_small_file_with_too_many_pixels_is_not_decoded(side):
    file = BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    assert len(file.getvalue()) < 50_000 and side**2 > MAX_PIXELS
    with pytest.raises(StationError, match="pixels"):
        as_png(file.getvalue())
