"""Clients that disconnect before they have their response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from .errors import ApiError

T = TypeVar("T")


class ClientLeft(ApiError):
    """The client has disconnected; nobody reads this response."""

    def __init__(self) -> None:
        super().__init__(499, "the client has disconnected")


async def unless_disconnected(work: Awaitable[T], request: Request) -> T:
    """The result of ``work``. Raises ``ClientLeft``, and cancels the work, where the client disconnects first.

    The request's body must have been read.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(wait_for_disconnect(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        # Their exceptions are looked at here: asyncio logs those that nobody looks at, with a traceback.
        await asyncio.gather(working, leaving, return_exceptions=True)


async def wait_for_disconnect(request: Request) -> None:
    """Return when the client has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
