"""When a request really arrived, and the header `Server-Timing`: its time at the server, so the rest is transfer.

A busy event loop reads a request late. The kernel knows how long it has waited in the socket.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAME = "server-timing"  # https://www.w3.org/TR/server-timing/
METRIC = "app"  # its `dur` is in milliseconds, from the last byte of the request to the first one of the response
MAX_DIGITS = 12
DURATION = re.compile(rf"(?:^|,)\s*{METRIC}\s*;\s*dur=(\d{{1,{MAX_DIGITS}}}(?:\.\d{{1,{MAX_DIGITS}}})?)\s*(?:,|$)")
ARRIVAL = "arrival"  # in the scope's state: the connection's ``Arrival``
TCP_INFO_BYTES = 104
AGES_OFFSET = 44  # of tcpi_last_data_sent, tcpi_last_ack_sent, tcpi_last_data_recv in Linux's struct tcp_info
AGE_RESOLUTION_S = 0.004  # of the kernel's clock, in most of its builds


class Arrival:
    """When a connection's last bytes arrived, on ``time.perf_counter``."""

    def __init__(self) -> None:
        self.at = time.perf_counter()

    def note(self, connection: Any) -> None:
        """The bytes in a socket are being read now."""
        ages = data_ages(connection)
        self.at = time.perf_counter() - (ages[1] if ages else 0.0)


class ServerTimingMiddleware:
    """Adds the header to every response. It must be outside of all that takes time."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        arrival: Arrival | None = scope.get("state", {}).get(ARRIVAL)  # None at another server than ours
        arrived_at = arrival.at if arrival else time.perf_counter()

        async def receive_and_note() -> Message:
            nonlocal arrived_at
            message = await receive()
            if message["type"] == "http.request":
                arrived_at = arrival.at if arrival else time.perf_counter()
            return message

        async def time_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                milliseconds = 1e3 * (time.perf_counter() - arrived_at)
                MutableHeaders(scope=message).append(NAME, f"{METRIC};dur={milliseconds:.3f}")
            await send(message)

        await self.app(scope, receive_and_note, time_and_send)


def server_seconds(header: str) -> float | None:
    """The seconds in a header's value; None where it has none of ours, or no plausible number."""
    found = DURATION.search(header)
    return float(found[1]) / 1e3 if found else None


def data_ages(connection: Any) -> tuple[float, float] | None:
    """Seconds since a socket last sent and last received data; None where that is unknown."""
    if sys.platform != "linux" or connection is None:
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        sent_ms, _, received_ms = struct.unpack_from("3I", info, AGES_OFFSET)
    except (OSError, struct.error):  # a closed socket, or a shorter structure
        return None
    return sent_ms / 1e3, received_ms / 1e3
