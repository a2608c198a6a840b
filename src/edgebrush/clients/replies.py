"""Reads what a BS answers to an image request: the image, checked to its end, the cost that it reports, or an error."""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import httpx2
from PIL import Image, UnidentifiedImageError

from edgebrush.api.errors import printable
from edgebrush.api.schema import MAX_STEPS
from edgebrush.journal.records import FailureKind

from .failures import PlaceError
from .reasons import HINTS

INVALID = (400, 413, 422)  # statuses of a request that the BS calls invalid
DEADLINE_CODE = "deadline_exceeded"  # of an `edgebrush serve`, with status 504
DEFAULT_PAUSE_S = 5.0  # after a status 429 or 503 without a usable Retry-After
MIN_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0  # other values of Retry-After are cut
MAX_SECONDS, MAX_JOULES = 86_400.0, 1e9  # larger values count as not reported
MAX_ERROR_CHARACTERS = 200
MAX_PIXELS = 2**24  # 4096 x 4096; a small file can hold billions
FORMATS = ("PNG", "JPEG", "WEBP")
PNG_END = b"IEND\xaeB`\x82"  # the last chunk with its checksum


class StationError(PlaceError):
    """A BS did not generate an image. ``station`` is its name, once it is known.

    ``is_fault`` says whether this counts against the BS; ``reached`` is false where no connection was made.
    """

    station = ""

    def __init__(
        self,
        reason: str,
        kind: FailureKind = "failed",
        retry_after_s: float = 0.0,
        is_fault: bool = True,
        reached: bool = True,
    ):
        super().__init__(reason, kind, retry_after_s)
        self.reason = reason
        self.is_fault, self.reached = is_fault, reached

    def __str__(self) -> str:
        return f"{self.station}: {self.reason}" if self.station else self.reason


@dataclass(frozen=True)
class Reply:
    """An image as a PNG file, and what the server reports about it; 0 where it reports nothing usable."""

    image: bytes
    queue_s: float
    compute_s: float
    energy_j: float
    steps: int = 0  # that were made


def parse_reply(body: bytes) -> Reply:
    """The image and its cost in the body of a reply. Raises ``StationError`` where there is no intact image."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        raise StationError("its reply is not JSON") from None
    if not isinstance(reply, dict):
        raise StationError("its reply is not a JSON object")
    return Reply(
        as_png(decode_image(reply)),
        bounded(reply.get("queue_s"), MAX_SECONDS),
        bounded(reply.get("compute_s", reply.get("inference_time_s")), MAX_SECONDS),  # the latter is SGLang's
        bounded(reply.get("energy_j"), MAX_JOULES),
        int(bounded(reply.get("steps_used"), MAX_STEPS)),
    )


def bounded(value: Any, limit: float) -> float:
    """``value`` as a float; 0 where it is missing, no number, or outside 0 to ``limit``."""
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= limit else 0.0


def decode_image(reply: dict[str, Any]) -> bytes:
    """The image file in a reply. Raises ``StationError`` where there is none."""
    try:
        return base64.b64decode(reply["data"][0]["b64_json"], validate=True)
    except (KeyError, IndexError, TypeError, ValueError, binascii.Error):
        raise StationError("its reply has no image under data[0].b64_json") from None


def as_png(file: bytes) -> bytes:
    """An image file that is decoded to its end: unchanged if it is a PNG, otherwise converted to one.

    Raises ``StationError`` for a file that is damaged, incomplete, too large, or neither PNG, JPEG nor WebP.
    """
    try:
        with Image.open(BytesIO(file), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise StationError(f"its image has {image.width} x {image.height} pixels, more than {MAX_PIXELS}")
            image.load()
            if image.format != "PNG":
                return png_of(image)
            if PNG_END not in file:  # decoding stops at the last pixel
                raise StationError("the image in its reply is damaged: its end is missing")
            return file
    except StationError:
        raise
    except UnidentifiedImageError:
        raise StationError("the image in its reply is neither PNG, JPEG nor WebP") from None
    except Exception as error:  # Pillow has no common exception class for damaged files
        raise StationError(f"the image in its reply is damaged: {printable(str(error))}") from None


def png_of(image: Image.Image) -> bytes:
    """A decoded image as a PNG file."""
    file = BytesIO()
    (image.convert("RGB") if image.mode == "CMYK" else image).save(file, "PNG")
    return file.getvalue()


def error_of(response: httpx2.Response, body: bytes) -> StationError:
    """A response other than 2xx as an error."""
    status = response.status_code
    message, code = error_message(body)
    reason = f"status {status}: {printable(message[:MAX_ERROR_CHARACTERS])}{HINTS.get(status, '')}"
    if status in INVALID:
        return StationError(reason, "invalid", is_fault=False)
    if status == 504 and code == DEADLINE_CODE:
        return StationError(reason, "deadline", is_fault=False)
    if status in (429, 503):
        return StationError(reason, "overload", pause_of(response), is_fault=status == 503)
    return StationError(reason)


def error_message(body: bytes) -> tuple[str, Any]:
    """The message in an error's body, and its code.

    OpenAI, vLLM and LocalAI have it at `error.message`, sd.cpp at `error` or `message`, FastAPI's servers at `detail`.
    """
    try:
        reply = json.loads(body)
        error = reply.get("error")
        if isinstance(error, dict):
            return str(error["message"]), error.get("code")
        for text in (reply.get("message"), error, reply.get("detail")):
            if text:
                return text if isinstance(text, str) else json.dumps(text), None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return body[:80].decode("utf-8", "replace"), None


def pause_of(response: httpx2.Response) -> float:
    """The seconds of Retry-After, cut to ``MIN_PAUSE_S`` to ``MAX_PAUSE_S``."""
    try:
        seconds = float(response.headers["retry-after"])
    except (KeyError, ValueError):  # no such header, or a date
        return DEFAULT_PAUSE_S
    return DEFAULT_PAUSE_S if math.isnan(seconds) else min(max(seconds, MIN_PAUSE_S), MAX_PAUSE_S)
