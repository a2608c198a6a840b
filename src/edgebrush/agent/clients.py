"""HTTP clients of image servers: what `edgebrush serve` and third-party servers are sent, and how replies are read.

A third-party server is any server with OpenAI's images API (``Endpoint`` in the scenario). It gets only the fields that
it knows.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from edgebrush.scenario.schema import Endpoint

from .failures import FailureKind, PlaceError
from .journal import Task
from .transfers import TransferTimer

CONNECT_TIMEOUT_S = 2.0
KEEPALIVE_S = 2.0
UNAVAILABLE_S = 5.0  # how long a BS that failed is avoided, unless a load report arrives earlier
MAX_RETRY_AFTER_S = 60.0  # longer values of Retry-After are cut
INVALID = (400, 413, 422)  # statuses of a request that the BS calls invalid
DEADLINE_CODE = "deadline_exceeded"  # of an `edgebrush serve`, with status 504
MAX_REPLY_BYTES = 64 * 2**20
MAX_ERROR_CHARACTERS = 200
IMAGE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")  # PNG, JPEG, WebP


class StationError(PlaceError):
    """A BS did not generate an image. The BS should be avoided for ``avoid_s`` seconds.

    With ``retry_after`` the BS requested that time itself, so a load report does not end it earlier.
    """

    def __init__(
        self,
        reason: str,
        avoid_s: float = UNAVAILABLE_S,
        retry_after: bool = False,
        kind: FailureKind = "failed",
    ):
        super().__init__(reason, kind, avoid_s if kind == "overload" else 0.0)
        self.avoid_s, self.retry_after = avoid_s, retry_after


@dataclass(frozen=True)
class Offload:
    """A task for a BS, after the decision. ``deadline_s`` counts from now; sizes in bits as in the scenario."""

    task: Task
    steps: int
    service_class: int
    bits_in: float
    bits_out: float
    deadline_s: float | None


@dataclass(frozen=True)
class Reply:
    """An image file and what the server reports about it; 0 where it reports nothing."""

    image: bytes
    queue_s: float
    compute_s: float
    energy_j: float


class ImagesClient:
    """The HTTP client of one server. ``transport`` replaces the network, for tests; ``clock`` times the exchanges."""

    def __init__(
        self,
        endpoint: Endpoint,
        size_px: int,
        key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.endpoint, self.size_px, self.clock = endpoint, size_px, clock
        self.base_url = endpoint.base_url.rstrip("/")
        self.http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_S),
            transport=transport,
            trust_env=False,
        )

    @property
    def is_edgebrush(self) -> bool:
        """Whether the server is an `edgebrush serve`, which knows all fields and reports its load."""
        return self.endpoint.load == "edgebrush"

    @property
    def images_url(self) -> str:
        return f"{self.base_url}/images/generations"

    @property
    def load_url(self) -> str:
        """Where the load is read. Without load reports: a page whose round trip still measures the link."""
        if self.is_edgebrush:
            return f"{self.base_url}/load"
        if self.endpoint.load == "prometheus":
            address = urlsplit(self.base_url)
            return self.endpoint.metrics_url or f"{address.scheme}://{address.netloc}/metrics"
        return f"{self.base_url}/models"

    async def post(self, offload: Offload) -> tuple[bytes, float]:
        """Request an image: the reply's body, and the seconds of the exchange on the network.

        Raises ``StationError`` or ``httpx.HTTPError``.
        """
        response, content, seconds = await self._exchange("POST", self.images_url, json=self.request_body(offload))
        if response.status_code != 200:
            raise error_of(response, content)
        return content, seconds

    async def get_load(self) -> tuple[bytes, float]:
        """The body of ``load_url``, whatever its status, and the seconds of the exchange on the network.

        Raises ``StationError`` or ``httpx.HTTPError``.
        """
        _, content, seconds = await self._exchange("GET", self.load_url)
        return content, seconds

    async def _exchange(self, method: str, url: str, **content: Any) -> tuple[httpx.Response, bytes, float]:
        timer = TransferTimer(self.clock)
        async with self.http.stream(method, url, extensions={"trace": timer.trace}, **content) as response:
            if method == "POST":  # a load request bounds the rate from below: rounded ages could make it look too fast
                timer.stream = response.extensions.get("network_stream")
            body = await read_body(response)
        timer.finish()
        return response, body, timer.seconds

    def request_body(self, offload: Offload) -> dict[str, Any]:
        """OpenAI's fields, plus those that this server knows."""
        task, endpoint = offload.task, self.endpoint
        body: dict[str, Any] = {
            "prompt": task.prompt,
            "n": 1,
            "size": f"{self.size_px}x{self.size_px}",
            "response_format": "b64_json",
        }
        if endpoint.model is not None:
            body["model"] = endpoint.model
        if endpoint.steps_field is not None:
            body[endpoint.steps_field] = offload.steps
        if self.is_edgebrush:
            body |= {"num_inference_steps": offload.steps, "seed": task.seed, "service_class": offload.service_class}
            if task.negative:
                body["negative_prompt"] = task.negative
            if task.guidance != 1.0:
                body["guidance_scale"] = task.guidance
            if offload.deadline_s is not None:
                body["deadline_s"] = offload.deadline_s
        return body

    async def close(self) -> None:
        await self.http.aclose()


async def read_body(response: httpx.Response) -> bytes:
    """The whole body. Raises ``StationError`` where it is larger than ``MAX_REPLY_BYTES``."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MAX_REPLY_BYTES:
            raise StationError(f"its reply is larger than {MAX_REPLY_BYTES // 2**20} MiB")
        parts.append(part)
    return b"".join(parts)


def error_of(response: httpx.Response, body: bytes) -> StationError:
    """A response other than 200 as an error, with the time for which to avoid the BS."""
    status, code = response.status_code, None
    try:
        detail = json.loads(body)["error"]
        message, code = str(detail["message"]), detail.get("code")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        message = body[:80].decode("utf-8", "replace")
    reason = f"status {status}: {message[:MAX_ERROR_CHARACTERS]}"
    if status in INVALID:
        return StationError(reason, 0.0, kind="invalid")
    if status == 504 and code == DEADLINE_CODE:
        return StationError(reason, 0.0, kind="deadline")
    if status in (429, 503):
        try:
            retry_after_s = float(response.headers["retry-after"])
        except (KeyError, ValueError):  # no such header, or a date
            return StationError(reason, kind="overload")
        wait_s = min(max(retry_after_s, 0.0), MAX_RETRY_AFTER_S)
        return StationError(reason, wait_s, retry_after=True, kind="overload")
    return StationError(reason)


def parse_reply(body: bytes) -> Reply:
    """The image and its cost in the body of a reply. Raises ``StationError`` where there is no image."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        raise StationError("its reply is not JSON") from None
    if not isinstance(reply, dict):
        raise StationError("its reply is not a JSON object")
    cost = (non_negative(reply.get(name)) for name in ("queue_s", "compute_s", "energy_j"))
    return Reply(decode_image(reply), *cost)


def decode_image(reply: dict[str, Any]) -> bytes:
    """The image file in a reply. Raises ``StationError`` where there is none."""
    try:
        image = base64.b64decode(reply["data"][0]["b64_json"], validate=True)
    except (KeyError, IndexError, TypeError, ValueError, binascii.Error):
        raise StationError("its reply has no image under data[0].b64_json") from None
    if not image.startswith(IMAGE_SIGNATURES):
        raise StationError("the image in its reply is neither PNG, JPEG nor WebP")
    return image


def non_negative(value: Any) -> float:
    """``value`` as a float; 0 where it is missing or no valid measurement."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) and value >= 0 else 0.0
