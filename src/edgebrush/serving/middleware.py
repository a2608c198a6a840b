"""ASGI middleware of a station: the limit of concurrent image requests, and a counter of responses by status."""

from __future__ import annotations

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgebrush.api.errors import error_response
from edgebrush.api.schema import IMAGES_PATH

from .station import Station


class RequestLimitMiddleware:
    """Counts the image requests in progress, and rejects those beyond the limit."""

    def __init__(self, app: ASGIApp, station: Station):
        self.app, self.station = app, station

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != IMAGES_PATH:
            await self.app(scope, receive, send)
            return
        station = self.station
        if station.connections >= station.limits.connections:
            message = f"{station.connections} requests are in progress, which is the limit; try again later"
            await error_response(station.overload_error(message, "too_many_requests"))(scope, receive, send)
            return
        station.requests += 1
        try:
            await self.app(scope, receive, send)
        finally:
            station.requests -= 1


class ResponseCountMiddleware:
    """Counts the responses to image requests by their status."""

    def __init__(self, app: ASGIApp, counter: Counter):
        self.app, self.counter = app, counter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def count_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.counter.labels(message["status"]).inc()
            await send(message)

        is_image_request = scope["type"] == "http" and scope["path"] == IMAGES_PATH
        await self.app(scope, receive, count_and_send if is_image_request else send)
