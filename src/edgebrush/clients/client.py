"""HTTP clients of image servers: what `edgebrush serve` and third-party servers are sent.

A third-party server is any server with OpenAI's images API (``Endpoint`` in the scenario). It gets only the fields that
it knows.
"""

from __future__ import annotations

import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from edgebrush.api.timing import AGE_RESOLUTION_S, server_seconds
from edgebrush.api.timing import NAME as SERVER_TIMING
from edgebrush.journal.records import Task
from edgebrush.scenario.schema import Endpoint

from .replies import StationError, error_of
from .transfers import TransferTimer

CONNECT_TIMEOUT_S = 2.0
KEEPALIVE_S = 2.0
MAX_IMAGE_BYTES, MAX_LOAD_BYTES = 64 * 2**20, 4 * 2**20  # of a response


@dataclass(frozen=True)
class Offload:
    """A task for a BS, after the decision. ``deadline_s`` counts from now; sizes in bits as in the scenario.

    ``is_valid``: the UE's own model accepts the request, so a BS that calls it invalid is at fault. A BS that gets less
    time than ``expected_s``, because of the deadline, is not.
    """

    task: Task
    steps: int
    service_class: int
    bits_in: float
    bits_out: float
    deadline_s: float | None
    is_valid: bool = False
    expected_s: float = 0.0


@dataclass(frozen=True)
class Exchange:
    """A request that was answered: the response, its whole body, and the seconds on the network and the server."""

    response: httpx.Response
    body: bytes
    seconds: float

    @property
    def server_s(self) -> float | None:
        """The seconds at the server, by its header `Server-Timing`; None where it has none, or claims too much.

        Each of the two may be off by the resolution of the kernel's clock.
        """
        seconds = server_seconds(self.response.headers.get(SERVER_TIMING, ""))
        return seconds if seconds is not None and seconds <= self.seconds + 2 * AGE_RESOLUTION_S else None


class ImagesClient:
    """The HTTP client of one server. ``transport`` replaces the network, for tests; ``clock`` times the exchanges."""

    def __init__(
        self,
        endpoint: Endpoint,
        size_px: int,
        key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        trust: ssl.SSLContext | None = None,
    ):
        self.endpoint, self.size_px, self.clock = endpoint, size_px, clock
        self.base_url, password = split_userinfo(endpoint.base_url.rstrip("/"))
        self.authorization = f"Bearer {key}" if key else password
        self.load_url, self.load_authorization = self._load_access()
        self.http = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity"},  # so that the size of a body is what was transferred
            verify=True if trust is None else trust,
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

    def _load_access(self) -> tuple[str, str | None]:
        """Where the load is read, and with which header `Authorization`. A key is not sent to another host.

        Without load reports, it is a page whose round trip still measures the link.
        """
        if self.is_edgebrush:
            return f"{self.base_url}/load", self.authorization
        if self.endpoint.load == "none":
            return f"{self.base_url}/models", self.authorization
        base = urlsplit(self.base_url)
        url, password = split_userinfo(self.endpoint.metrics_url or f"{base.scheme}://{base.netloc}/metrics")
        same_host = urlsplit(url)[:2] == base[:2]  # scheme, host and port
        return url, password or (self.authorization if same_host else None)

    async def post(self, offload: Offload) -> Exchange:
        """Request an image. Raises ``StationError``, also for a status other than 200, or ``httpx.HTTPError``."""
        body = self.request_body(offload)
        exchange = await self._exchange("POST", self.images_url, self.authorization, MAX_IMAGE_BYTES, json=body)
        if exchange.response.status_code != 200:
            raise error_of(exchange.response, exchange.body)
        return exchange

    async def get_load(self) -> Exchange:
        """Request ``load_url``, whatever its status. Raises ``StationError`` or ``httpx.HTTPError``."""
        return await self._exchange("GET", self.load_url, self.load_authorization, MAX_LOAD_BYTES)

    async def _exchange(
        self, method: str, url: str, authorization: str | None, max_bytes: int, **content: Any
    ) -> Exchange:
        timer = TransferTimer(self.clock)
        headers = {"Authorization": authorization} if authorization else {}
        extensions = {"trace": timer.trace}
        async with self.http.stream(method, url, headers=headers, extensions=extensions, **content) as response:
            if method == "POST":  # a load request bounds the rate from below: rounded ages could make it look too fast
                timer.stream = response.extensions.get("network_stream")
            body = await read_body(response, max_bytes)
        timer.finish()
        return Exchange(response, body, timer.seconds)

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
            if task.guidance is not None:
                body["guidance_scale"] = task.guidance
            if offload.deadline_s is not None:
                body["deadline_s"] = offload.deadline_s
        return body

    async def close(self) -> None:
        await self.http.aclose()


def split_userinfo(url: str) -> tuple[str, str | None]:
    """A URL without user and password, which could get into logs, and the header `Authorization` that carries them."""
    address = httpx.URL(url)
    if not address.userinfo:
        return url, None
    name_and_password = f"{address.username}:{address.password}".encode()
    return str(address.copy_with(userinfo=b"")), f"Basic {b64encode(name_and_password).decode()}"


async def read_body(response: httpx.Response, max_bytes: int) -> bytes:
    """The whole body. Raises ``StationError`` where it is larger than ``max_bytes``."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > max_bytes:
            raise StationError(f"its reply is larger than {max_bytes // 2**20} MiB")
        parts.append(part)
    return b"".join(parts)
