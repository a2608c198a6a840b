"""The header `Server-Timing`: how long a server had a request, so that its client can tell the rest is transfer."""

from __future__ import annotations

import re
import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAME = "server-timing"  # https://www.w3.org/TR/server-timing/
METRIC = "app"  # its `dur` is in milliseconds, from the last byte of the request to the first one of the response
MAX_DIGITS = 12
DURATION = re.compile(rf"(?:^|,)\s*{METRIC}\s*;\s*dur=(\d{{1,{MAX_DIGITS}}}(?:\.\d{{1,{MAX_DIGITS}}})?)\s*(?:,|$)")


class ServerTimingMiddleware:
    """Adds the header to every response. It must be outside of all that takes time."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received_at = time.perf_counter()

        async def receive_and_note() -> Message:
            nonlocal received_at
            message = await receive()
            if message["type"] == "http.request":
                received_at = time.perf_counter()
            return message

        async def time_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                milliseconds = 1e3 * (time.perf_counter() - received_at)
                MutableHeaders(scope=message).append(NAME, f"{METRIC};dur={milliseconds:.3f}")
            await send(message)

        await self.app(scope, receive_and_note, time_and_send)


def server_seconds(header: str) -> float | None:
    """The seconds in a header's value; None where it has none of ours, or no plausible number."""
    found = DURATION.search(header)
    return float(found[1]) / 1e3 if found else None
