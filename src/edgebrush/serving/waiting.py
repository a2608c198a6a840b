"""Wait for a generation, or stop it when its client disconnects."""

from __future__ import annotations

import asyncio

from fastapi import Request

from edgebrush.api.middleware import wait_for_disconnect

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
