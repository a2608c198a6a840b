"""Measures how long an HTTP exchange takes on the network, without the delays of a busy event loop.

httpx's trace events give the times of the transport. The kernel gives the age of the last bytes that were sent and
received, so a response that waits in a socket until the event loop reads it does not look like a slow link.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

SENDING, SENT = "http11.send_request_headers.started", "http11.send_request_body.complete"
RECEIVED = "http11.receive_response_body.complete"
TCP_INFO_BYTES = 104
AGES_OFFSET = 44  # of tcpi_last_data_sent, tcpi_last_ack_sent, tcpi_last_data_recv in Linux's struct tcp_info


class TransferTimer:
    """Times one exchange on ``clock``. A transport without trace events is timed around its calls."""

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.started_at = self.sent_at = self.received_at = clock()
        self.received = False
        self.stream: Any = None  # the response's network stream, once there are headers, if the kernel is to be asked

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """The callback for httpx's extension ``trace``."""
        if event == SENDING:
            self.started_at = self.sent_at = self.clock()
        elif event == SENT:
            self.sent_at = self.clock()
        elif event == RECEIVED:
            self.finish()

    def finish(self) -> None:
        """The whole response was read. Only the first call counts."""
        if self.received:
            return
        self.received, self.received_at = True, self.clock()
        ages = data_ages(self.stream)
        if ages:
            sent_age_s, received_age_s = ages
            # The ages have a resolution of some milliseconds, but the last byte was sent between these two events.
            self.started_at = min(max(self.received_at - sent_age_s, self.started_at), self.sent_at)
            self.received_at = max(self.received_at - received_age_s, self.started_at)

    @property
    def seconds(self) -> float:
        """From sending the request to receiving the response's last byte; never too short without the kernel's ages."""
        return self.received_at - self.started_at


def data_ages(stream: Any) -> tuple[float, float] | None:
    """Seconds since a network stream's socket last sent and last received data; None where that is unknown."""
    connection = stream.get_extra_info("socket") if stream else None
    if sys.platform != "linux" or connection is None:
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
        sent_ms, _, received_ms = struct.unpack_from("3I", info, AGES_OFFSET)
    except (OSError, struct.error):  # a closed socket, or a shorter structure
        return None
    return sent_ms / 1e3, received_ms / 1e3
