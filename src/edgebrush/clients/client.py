"""The HTTP client of an image server: asks for images and loads, and times what travels."""

from __future__ import annotations

import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from edgebrush import traces
from edgebrush.api.timing import AGE_RESOLUTION_S, server_seconds
from edgebrush.api.timing import NAME as SERVER_TIMING
from edgebrush.scenario.schema import Endpoint

from .dialects import DIALECTS
from .offload import Offload
from .replies import StationError, error_of
from .transfers import TransferTimer

EXCHANGE_ERRORS = (TimeoutError, httpx2.HTTPError, StationError)  # of a request that fails, under a time limit
CONNECT_TIMEOUT_S = 2.0
KEEPALIVE_S = 2.0
MAX_IMAGE_BYTES, MAX_LOAD_BYTES = 64 * 2**20, 4 * 2**20  # of a response


@dataclass(frozen=True)
class Exchange:
    """A request that was answered: the response, its whole body, and the seconds on the network and the server.

    ``body_s`` are the seconds from the response's headers to the end of its body.
    """

    response: httpx2.Response
    body: bytes
    seconds: float
    body_s: float

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
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        trust: ssl.SSLContext | None = None,
    ):
        self.endpoint, self.size_px, self.clock = endpoint, size_px, clock
        self.dialect = DIALECTS[endpoint.kind]
        self.base_url, password = split_userinfo(endpoint.base_url.rstrip("/"))
        self.authorization = f"Bearer {key}" if key else password
        self.load_url, self.load_authorization = self._load_access()
        self.http = httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity"},  # so that the size of a body is what was transferred
            verify=True if trust is None else trust,
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_S),
            transport=transport,
            trust_env=False,
        )

    @property
    def is_edgebrush(self) -> bool:
        """Whether the server is an `edgebrush serve`, which states its seconds."""
        return self.endpoint.kind == "edgebrush"

    @property
    def images_url(self) -> str:
        return f"{self.base_url}/images/generations"

    def _load_access(self) -> tuple[str, str | None]:
        """Where the load is read, and with which header `Authorization`. A key is not sent to another host."""
        url, password = split_userinfo(self.dialect.load_url(self.base_url, self.endpoint))
        same_host = urlsplit(url)[:2] == urlsplit(self.base_url)[:2]  # scheme, host and port
        return url, password or (self.authorization if same_host else None)

    async def post(self, offload: Offload) -> Exchange:
        """Request an image. Raises ``StationError``, also for a status other than 2xx, or ``httpx2.HTTPError``."""
        body = self.dialect.body(offload, self.size_px, self.endpoint.model)
        exchange = await self._exchange("POST", self.images_url, self.authorization, MAX_IMAGE_BYTES, json=body)
        if not exchange.response.is_success:
            raise error_of(exchange.response, exchange.body)
        return exchange

    async def get(self, url: str) -> Exchange:
        """Request a page of the server, whatever its status. Raises ``StationError`` or ``httpx2.HTTPError``."""
        return await self._exchange("GET", url, self.authorization, MAX_LOAD_BYTES)

    async def get_load(self) -> Exchange:
        """Request ``load_url``, whatever its status. Raises ``StationError`` or ``httpx2.HTTPError``."""
        return await self._exchange("GET", self.load_url, self.load_authorization, MAX_LOAD_BYTES)

    async def _exchange(
        self, method: str, url: str, authorization: str | None, max_bytes: int, **content: Any
    ) -> Exchange:
        timer = TransferTimer(self.clock)
        headers = traces.trace_headers() | ({"Authorization": authorization} if authorization else {})
        extensions = {"trace": timer.trace}
        async with self.http.stream(method, url, headers=headers, extensions=extensions, **content) as response:
            if method == "POST":  # a load request bounds the rate from below: rounded ages could make it look too fast
                timer.stream = response.extensions.get("network_stream")
            headers_at = self.clock()
            body = await read_body(response, max_bytes)
        timer.finish()
        return Exchange(response, body, timer.seconds, max(timer.received_at - headers_at, 0.0))

    async def close(self) -> None:
        await self.http.aclose()


def split_userinfo(url: str) -> tuple[str, str | None]:
    """A URL without user and password, which could get into logs, and the header `Authorization` that carries them."""
    address = httpx2.URL(url)
    if not address.userinfo:
        return url, None
    name_and_password = f"{address.username}:{address.password}".encode()
    return str(address.copy_with(userinfo=b"")), f"Basic {b64encode(name_and_password).decode()}"


async def read_body(response: httpx2.Response, max_bytes: int) -> bytes:
    """The whole body. Raises ``StationError`` where it is larger than ``max_bytes``."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > max_bytes:
            raise StationError(f"its reply is larger than {max_bytes // 2**20} MiB")
        parts.append(part)
    return b"".join(parts)
