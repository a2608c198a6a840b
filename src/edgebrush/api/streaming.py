"""Server-sent events of the images API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from .errors import ApiError
from .schema import CompletedImage, ErrorReply, PartialImage


class EventStream(EventSourceResponse):
    """A response of events. Calls ``on_close`` at its end, also where the client disconnects before the first event."""

    def __init__(self, events: AsyncIterator[PartialImage | CompletedImage], on_close: Callable[[], None]):
        super().__init__(encode_events(events), headers={"cache-control": "no-store"})
        self.on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.on_close()


async def encode_events(events: AsyncIterator[PartialImage | CompletedImage]) -> AsyncIterator[bytes]:
    """The encoded events: partial images, then the image or an error."""
    try:
        async for event in events:
            yield format_sse_event(data_str=event.model_dump_json(), event=event.type)
    except ApiError as error:
        yield format_sse_event(data_str=ErrorReply(error=error.detail).model_dump_json(), event="error")
