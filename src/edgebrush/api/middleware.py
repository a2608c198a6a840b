"""ASGI middleware for both APIs: bearer tokens, and request bodies limited in size and time."""

from __future__ import annotations

import asyncio
import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, error_response
from .files import FILES_PATH

OPEN_PATHS = ("/healthz", "/readyz", "/metrics")  # monitoring needs no token
MAX_BODY = 128 * 1024  # bytes; the longest prompt has 32,000 characters of at most 4 bytes
MAX_DRAINED = 4 * 1024 * 1024  # bytes read and discarded, so that a client that sends too much can read the answer
BODY_TIMEOUT_S = 10.0
MISSING_TOKEN = ApiError(
    401,
    "a valid token is needed: send the header Authorization: Bearer TOKEN",
    "authentication_error",
    code="invalid_api_key",
)


class TokenMiddleware:
    """Requires the bearer token on all but the open paths, before any byte of the body is read."""

    def __init__(self, app: ASGIApp, token: str):
        self.app, self.expected = app, f"bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["path"]) or self.is_authorized(scope):
            await self.app(scope, receive, send)
        else:
            await error_response(MISSING_TOKEN)(scope, receive, send)

    def is_authorized(self, scope: Scope) -> bool:
        """Compare the token in constant time."""
        scheme, _, token = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + token, self.expected)


class BodyMiddleware:
    """Reads the whole body, within limits of size and time, before the application starts."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await self.read(Headers(scope=scope), receive)
        except TimeoutError:
            error = ApiError(408, f"the body did not arrive within {BODY_TIMEOUT_S:g} s", code="request_timeout")
            await error_response(error, close=True)(scope, receive, send)
        except ApiError as error:
            await error_response(error, close=True)(scope, receive, send)
        else:
            if body is not None:
                await self.app(scope, replay_body(body, receive), send)

    async def read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body; None where the client has disconnected. Raises ``ApiError`` where it is too large."""
        too_large = ApiError(413, f"the body is larger than {MAX_BODY} bytes; send less", code="body_too_large")
        announced = headers.get("content-length", "0")
        if len(announced) > 9 or int(announced) > MAX_DRAINED:
            raise too_large
        parts: list[bytes] = []
        size = 0
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


def is_open(path: str) -> bool:
    """Whether a path needs no token: monitoring, and files, whose names nobody can guess."""
    return path in OPEN_PATHS or path.startswith(FILES_PATH)


def replay_body(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that returns the body first, and then what the server sends: the disconnect."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
