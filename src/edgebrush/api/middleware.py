"""What a request must pass before an application sees it: a token, and a body that is small and comes in time."""

from __future__ import annotations

import asyncio
import hmac

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .schema import ProblemReply, Refusal

OPEN_PATHS = {"/healthz", "/readyz", "/metrics"}  # whoever watches a server needs no token
MAX_BODY = 64 * 1024  # bytes
MAX_DRAINED = 4 * 1024 * 1024  # bytes read and forgotten, so that a client who sends too much may read the answer
READ_S = 10.0  # for a body
NO_TOKEN = Refusal(
    401,
    "a valid token is needed: Authorization: Bearer TOKEN",
    "authentication_error",
    code="invalid_api_key",
)


def answer(refusal: Refusal, close: bool = False) -> JSONResponse:
    """A refusal in OpenAI's shape."""
    headers = {}
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(refusal.retry_after_s)
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refusal.status in (502, 504):
        headers["x-should-retry"] = "false"  # OpenAI's clients listen to it: all was tried, or the deadline is past
    if close:
        headers["connection"] = "close"
    return JSONResponse(ProblemReply(error=refusal.problem).model_dump(), refusal.status, headers)


class TokenGate:
    """Asks for the bearer token on all but the open paths, before a byte of the body is read."""

    def __init__(self, app: ASGIApp, token: str):
        self.app, self.expected = app, f"bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self.knows(scope):
            await self.app(scope, receive, send)
        else:
            await answer(NO_TOKEN)(scope, receive, send)

    def knows(self, scope: Scope) -> bool:
        scheme, _, token = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + token, self.expected)


class BodyGate:
    """Reads the body whole, within a size and a time, before the application starts."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(READ_S):
                body = await self.read(Headers(scope=scope), receive)
        except TimeoutError:
            refusal = Refusal(408, f"the body did not come within {READ_S:g} s", code="request_timeout")
            await answer(refusal, close=True)(scope, receive, send)
        except Refusal as refusal:
            await answer(refusal, close=True)(scope, receive, send)
        else:
            if body is not None:
                await self.app(scope, replaying(body, receive), send)

    async def read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body; None where the client has gone."""
        too_large = Refusal(413, f"the body is larger than {MAX_BODY} bytes", code="body_too_large")
        announced = headers.get("content-length", "0")
        if len(announced) > 9 or int(announced) > MAX_DRAINED:
            raise too_large
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size <= MAX_BODY:
                parts.append(part)
            if size > MAX_DRAINED or (size > MAX_BODY and not message.get("more_body", False)):
                raise too_large
            if not message.get("more_body", False):
                return b"".join(parts)


async def until_gone(request: Request) -> None:
    """Returns when the client has gone; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def replaying(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body first, and then whatever else comes: that the client has gone."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
