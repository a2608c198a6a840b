"""Server-sent events of the images API."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from fastapi.sse import EventSourceResponse, format_sse_event
from PIL import Image
from starlette.types import Receive, Scope, Send

from .disconnects import unless_disconnected
from .errors import ApiError
from .pictures import encode, output_format, size_of
from .schema import CompletedImage, ErrorReply, OpenAiFields, PartialImage

Event = PartialImage | CompletedImage


class EventStream(EventSourceResponse):
    """A response of events. Calls ``on_close`` at its end, also where the client disconnects."""

    def __init__(self, events: AsyncIterator[Event], on_close: Callable[[], None]):
        super().__init__(encode_events(events), headers={"cache-control": "no-store"})
        self.on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.on_close()


async def open_stream(events: AsyncIterator[Event], request: Request, on_close: Callable[[], None]) -> EventStream:
    """The response, when there is a first event: until then, an error has its own HTTP status.

    ``on_close`` is called at the stream's end, or where it does not begin.
    """

    async def first_event() -> Event:
        return await anext(events)

    try:
        first = await unless_disconnected(first_event(), request)
    except BaseException:
        on_close()
        raise
    return EventStream(chain(first, events), on_close)


async def chain(first: Event, others: AsyncIterator[Event]) -> AsyncIterator[Event]:
    yield first
    async for event in others:
        yield event


async def encode_events(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """The encoded events: partial images, then the image or an error."""
    try:
        async for event in events:
            yield format_sse_event(data_str=event.model_dump_json(), event=event.type)
    except ApiError as error:
        yield format_sse_event(data_str=ErrorReply(error=error.detail).model_dump_json(), event="error")


class PartialImages:
    """The partial images of a stream: as many as requested, evenly spaced among the steps."""

    def __init__(self, request: OpenAiFields):
        self.request, self.made = request, 0

    def wants(self, step: int, steps: int) -> bool:
        """Whether the sample after ``step`` of ``steps`` is one of them."""
        parts = (self.request.partial_images or 0) + 1
        return step * parts // steps > (step - 1) * parts // steps

    def event(self, picture: Image.Image, step: int, steps: int) -> PartialImage:
        """The event with the sample after ``step``."""
        self.made += 1
        return PartialImage(
            b64_json=base64.b64encode(encode(picture, self.request)).decode(),
            output_format=output_format(self.request),
            partial_image_index=self.made - 1,
            created_at=int(time.time()),
            size=size_of(picture),
            step=step,
            steps=steps,
        )
