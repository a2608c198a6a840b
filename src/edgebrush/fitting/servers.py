"""Measures image servers: what they are, their links and their service times, by requests of bounded size and number.

- Kind, models, images and whether steps are honoured come from ``edgebrush.clients.check``.
- The round trip is the fastest of some small pages.
- The uplink's rate comes from image requests without a prompt, which a server refuses after reading them. They grow
  until one takes long enough to be measured.
- The downlink's rate comes from the images, if they take long enough to arrive; otherwise it is that of the uplink.
- A service time is that of an image, without the transfer.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from edgebrush.api.errors import printable
from edgebrush.api.schema import MAX_NAME, Load
from edgebrush.api.timing import NAME as SERVER_TIMING
from edgebrush.api.timing import server_seconds
from edgebrush.clients.access import check_address, read_key, tls_context
from edgebrush.clients.check import PAGE_TIMEOUT_S, MadeImage, ServerCheck, check_server, probe_offload
from edgebrush.clients.client import EXCHANGE_ERRORS, ImagesClient
from edgebrush.clients.guess import guess_kind
from edgebrush.clients.reasons import reason_of
from edgebrush.clients.replies import StationError
from edgebrush.clients.transfers import SENDING
from edgebrush.errors import UserError
from edgebrush.scenario.schema import Endpoint

PADDING_BYTES = (2**14, 2**17, 2**20)  # of the requests that measure the uplink
LONG_ENOUGH_S = 0.05  # a longer transfer needs no larger one
SHORTEST_S = 1e-4  # of a transfer or a service; shorter ones are noise
MEASURABLE_S = 2e-3  # of an image's transfer
HEADER_BYTES = 200  # of a request or a response, beside its body
ANSWERED = "http11.receive_response_headers.complete"


@dataclass(frozen=True)
class MeasuredLink:
    """Bits per second and seconds. Without ``down_measured``, ``down_bps`` is assumed to be ``up_bps``."""

    up_bps: float
    down_bps: float
    round_trip_s: float
    down_measured: bool


@dataclass(frozen=True)
class MeasuredServer:
    """What a server says and what was measured; ``load`` is None for a server without edgebrush's load report."""

    name: str
    endpoint: Endpoint
    check: ServerCheck
    load: Load | None
    link: MeasuredLink
    service_s: Mapping[int, float]  # seconds of an image by its steps, without waiting
    image_px: int  # the longer side of its images
    request_bytes: int
    reply_bytes: int

    @property
    def model(self) -> str:
        """The first model that the server lists, on one line; "" if it lists none."""
        return printable(self.check.models[0])[:MAX_NAME] if self.check.models else ""


@dataclass(frozen=True)
class Measurement:
    """How servers are reached and measured: by images of two step counts. Tests replace ``transport`` and ``clock``."""

    prompt: str
    steps: tuple[int, int]
    token_env: str | None = None
    ca_file: Path | None = None
    transport: httpx2.AsyncBaseTransport | None = None
    clock: Callable[[], float] = time.monotonic
    on_server: Callable[[str, str], None] = lambda name, url: None


def named_urls(arguments: Sequence[str]) -> dict[str, str]:
    """Names and addresses of ``[NAME=]URL``; stations without a name are numbered. Raises ``UserError``."""
    urls: dict[str, str] = {}
    for number, argument in enumerate(arguments, 1):
        found = re.fullmatch(r"(?:([a-z0-9][a-z0-9-]*)=)?(https?://.+)", argument)
        if not found:
            raise UserError(f"url = {argument!r}: give http://HOST:PORT or NAME=http://HOST:PORT")
        name = found[1] or f"station-{number}"
        if name in urls:
            raise UserError(f"url = {argument!r}: there is another station called {name}; give it another name")
        check_address(name, found[2])
        urls[name] = found[2].rstrip("/").removesuffix("/v1")
    return urls


async def measure_servers(
    urls: Mapping[str, str], sizes_px: Mapping[str, int], measurement: Measurement
) -> list[MeasuredServer]:
    """Measure servers one after the other, so that they do not disturb each other, by images of ``sizes_px``.

    Raises ``UserError`` where one does not answer as an image server should.
    """
    servers = []
    for name, url in urls.items():
        measurement.on_server(name, url)
        try:
            servers.append(await measure_server(name, url, sizes_px[name], measurement))
        except EXCHANGE_ERRORS as error:
            raise UserError(f"{name} at {url}: {reason_of(error)}") from None
    return servers


async def measure_server(name: str, url: str, size_px: int, measurement: Measurement) -> MeasuredServer:
    """One server. Raises ``UserError``, or as ``ImagesClient`` does."""
    endpoint = Endpoint(base_url=f"{url}/v1", api_key_env=measurement.token_env)
    key, trust = read_key(endpoint, "station-token-env"), tls_context(measurement.ca_file)
    client = ImagesClient(endpoint, size_px, key, measurement.transport, measurement.clock, trust)
    try:
        async with asyncio.timeout(PAGE_TIMEOUT_S):
            kind = await guess_kind(client) or "openai"
            load = Load.model_validate_json((await client.get_load()).body) if kind == "edgebrush" else None
        endpoint = endpoint.model_copy(update={"kind": kind})
        check = await check_server(
            endpoint,
            size_px,
            measurement.steps,
            measurement.prompt,
            key=key,
            trust=trust,
            transport=measurement.transport,
            clock=measurement.clock,
        )
        if check.problem or check.few is None or check.more is None:
            raise UserError(f"{name} at {url}: {check.problem}")
        round_trip_s = check.round_trip_s or 0.0
        up_bps = await measure_uplink(client, round_trip_s)
    finally:
        await client.close()
    images = (check.few, check.more)
    down_bps = downlink_bps(images, check.bytes_per_s, round_trip_s)
    link = MeasuredLink(up_bps, down_bps or up_bps, round_trip_s, down_bps is not None)
    return MeasuredServer(
        name,
        endpoint,
        check,
        load,
        link,
        {image.steps: service_s(image, link) for image in images},
        max(check.more.width, check.more.height),
        HEADER_BYTES + len(json.dumps(image_request(client, measurement))),
        HEADER_BYTES + check.more.reply_bytes,
    )


def image_request(client: ImagesClient, measurement: Measurement) -> dict[str, Any]:
    """The body of a request for an image, as the check sends it."""
    return client.dialect.body(probe_offload(measurement.prompt, measurement.steps[0]), client.size_px, None)


def service_s(image: MadeImage, link: MeasuredLink) -> float:
    """Seconds of an image at the server: as it states them, otherwise without the transfer."""
    return max(image.server_s or image.seconds - link.round_trip_s - 8 * image.reply_bytes / link.down_bps, SHORTEST_S)


def downlink_bps(images: Sequence[MadeImage], bytes_per_s: float | None, round_trip_s: float) -> float | None:
    """Bits per second from the server, without the round trip if it states its seconds; None if images are too small.

    ``bytes_per_s`` is the rate of a body that arrived after its headers.
    """
    stated = [image for image in images if image.server_s > 0]
    if not stated:
        return None if bytes_per_s is None else 8 * bytes_per_s
    seconds, size = min((image.seconds - image.server_s - round_trip_s, image.reply_bytes) for image in stated)
    return 8 * (HEADER_BYTES + size) / seconds if seconds >= MEASURABLE_S else None


async def measure_uplink(client: ImagesClient, round_trip_s: float) -> float:
    """Bits per second to the server.

    Raises ``StationError`` where it takes a request without a prompt for a good one, else as ``httpx2`` does.
    """
    for size in PADDING_BYTES:
        content = json.dumps({"padding": "x" * size}).encode()
        async with asyncio.timeout(PAGE_TIMEOUT_S):
            response, answered_s = await refused_request(client, content)
        if response.status_code < 400:
            raise StationError("it accepts a request without a prompt, so its uplink cannot be measured")
        stated_s = server_seconds(response.headers.get(SERVER_TIMING, "")) or 0.0
        seconds = answered_s - stated_s - round_trip_s
        bps = 8 * (HEADER_BYTES + size) / max(seconds, SHORTEST_S)
        if seconds > LONG_ENOUGH_S:
            break
    return bps


async def refused_request(client: ImagesClient, content: bytes) -> tuple[httpx2.Response, float]:
    """Post an invalid image request. Returns the response, and the seconds from its first byte to the response.

    A transport without trace events is timed around its call.
    """
    marks: dict[str, float] = {}

    async def trace(event: str, _: dict[str, Any]) -> None:
        marks[event] = client.clock()

    headers = {"content-type": "application/json"}
    if client.authorization:
        headers["authorization"] = client.authorization
    called, extensions = client.clock(), {"trace": trace}
    response = await client.http.post(client.images_url, content=content, headers=headers, extensions=extensions)
    answered = client.clock()
    return response, marks.get(ANSWERED, answered) - marks.get(SENDING, called)
