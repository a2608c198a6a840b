"""Server-sent events of a generation, and cancellation when the client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from edgebrush.api.errors import ApiError
from edgebrush.api.middleware import wait_for_disconnect
from edgebrush.api.schema import ErrorReply

from .generation import Generation
from .station import cancelled_error


async def wait_for_end(generation: Generation, request: Request) -> None:
    """Wait until a generation has ended. Cancel it if its client disconnects first."""
    waits = [
        asyncio.ensure_future(generation.ended.wait()),
        asyncio.ensure_future(wait_for_disconnect(request)),
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
        generation.cancel(cancelled_error())  # no effect after the end


class EventStream(EventSourceResponse):
    """A generation's server-sent events. Cancels the generation when the client disconnects, also before the first."""

    def __init__(self, generation: Generation):
        super().__init__(sse_events(generation), headers={"cache-control": "no-store"})
        self.generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.generation.cancel(cancelled_error())


async def sse_events(generation: Generation) -> AsyncIterator[bytes]:
    """The encoded events: partial images, then the image or an error."""
    try:
        async for event in generation.stream():
            yield format_sse_event(data_str=event.model_dump_json(), event=event.type)
    except ApiError as error:
        yield format_sse_event(data_str=ErrorReply(error=error.detail).model_dump_json(), event="error")
