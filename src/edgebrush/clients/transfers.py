"""Measures how long an HTTP exchange takes on the network, without the delays of a busy event loop.

httpx2's trace events give the times of the transport. The kernel gives the age of the last bytes that were sent and
received, so a response that waits in a socket until the event loop reads it does not look like a slow link.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgebrush.api.timing import data_ages

SENDING, SENT = "http11.send_request_headers.started", "http11.send_request_body.complete"
RECEIVED = "http11.receive_response_body.complete"


class TransferTimer:
    """Times one exchange on ``clock``. A transport without trace events is timed around its calls."""

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.started_at = self.sent_at = self.received_at = clock()
        self.received = False
        self.stream: Any = None  # the response's network stream, once there are headers, if the kernel is to be asked

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """The callback for httpx2's extension ``trace``."""
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
        ages = data_ages(self.stream.get_extra_info("socket")) if self.stream else None
        if ages:
            sent_age_s, received_age_s = ages
            # The ages have a resolution of some milliseconds, but the last byte was sent between these two events.
            self.started_at = min(max(self.received_at - sent_age_s, self.started_at), self.sent_at)
            self.received_at = max(self.received_at - received_age_s, self.started_at)

    @property
    def seconds(self) -> float:
        """From sending the request to receiving the response's last byte; never too short without the kernel's ages."""
        return self.received_at - self.started_at
