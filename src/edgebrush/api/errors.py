"""Errors of the HTTP APIs: one exception type, and its response in OpenAI's error format."""

from __future__ import annotations

import logging
import math
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from edgebrush.errors import REASONS, WITHOUT_VALUE, most_specific_problem

from .schema import ErrorDetail, ErrorReply

MAX_RETRY_S = 60  # OpenAI's clients ignore a longer Retry-After
MAX_SHOWN_VALUE = 80  # characters of a rejected value that an error message repeats
STATUS_DESCRIPTIONS = {  # the table in docs/serving.md
    400: "The body is not JSON, or a field is unknown, missing, or has a value that the API does not allow.",
    401: "The token is missing or wrong.",
    404: "Unknown model, job, file or path.",
    408: "The body did not arrive in time.",
    409: "The job was cancelled.",
    413: "The body is too large.",
    422: "A valid request that this server cannot serve: its model does not know the prompt, for example.",
    429: "Too much work: the queue is full, or too many requests are in progress.",
    502: "No place could make the image.",
    503: "The server is shutting down or failed. Another one may be available.",
    504: "The deadline passed.",
}
QUOTING = (400, 422)  # statuses whose messages may quote a prompt, so they are not logged
CODES = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
}  # OpenAI's, by pydantic's type

log = logging.getLogger(__name__)


class ApiError(Exception):
    """A request that is answered with an error; ``retry_after_s`` is set where the client may retry."""

    def __init__(
        self,
        status: int,
        message: str,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ):
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s
        self.detail = ErrorDetail(
            message=printable(message), type=type, param=printable(param) if param else None, code=code
        )


def overload_error(message: str, code: str, wait_s: float) -> ApiError:
    """A 429 whose Retry-After is ``wait_s`` in whole seconds, 1 to ``MAX_RETRY_S``."""
    retry_after_s = max(1, min(MAX_RETRY_S, math.ceil(wait_s)))
    return ApiError(429, message, "rate_limit_error", code=code, retry_after_s=retry_after_s)


def error_response(error: ApiError, close: bool = False) -> JSONResponse:
    """Log an error and make its HTTP response, in OpenAI's format; ``close`` also ends the connection."""
    reason = error.detail.code if error.status in QUOTING else error.detail.message
    log.info("status %d: %s", error.status, reason, extra={"status": error.status, "reason": error.detail.code})
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.status in (502, 504):
        headers["x-should-retry"] = "false"  # OpenAI's clients obey it: every place failed, or the deadline has passed
    if close:
        headers["connection"] = "close"
    return JSONResponse(ErrorReply(error=error.detail).model_dump(), error.status, headers)


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's error responses, for its OpenAPI schema."""
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        responses[status] = {"model": ErrorReply, "description": STATUS_DESCRIPTIONS[status]}
        if status in (429, 503):
            responses[status]["headers"] = retry
    return responses


def add_error_handlers(app: FastAPI) -> None:
    """Answer all errors in OpenAI's format: invalid requests, unknown paths and methods, the server's own faults."""

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> Response:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> Response:
        return error_response(validation_error(list(error.errors())))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        response = error_response(http_exception_error(error, request))
        if error.status_code == 405:  # Starlette lists only the methods of the first route with that path
            routes = [route for route in app.routes if isinstance(route, Route) and matches_path(route, request)]
            response.headers["allow"] = ", ".join(sorted(set().union(*(route.methods or () for route in routes))))
        return response

    @app.exception_handler(Exception)
    async def internal_error(_: Request, error: Exception) -> Response:
        message = "internal error; see the server's log"
        return error_response(ApiError(500, message, "server_error", code="internal_error"))


def http_exception_error(error: HTTPException, request: Request) -> ApiError:
    """Starlette's exception with a message that names method and path."""
    path = shortened(request.url.path)
    messages = {404: f"no such path: {path}", 405: f"{path} does not support {request.method}"}
    return ApiError(error.status_code, messages.get(error.status_code, str(error.detail)))


def matches_path(route: Route, request: Request) -> bool:
    """Whether a route has the request's path, but not its method."""
    return route.matches(request.scope)[0] is Match.PARTIAL


def validation_error(problems: list[dict[str, Any]]) -> ApiError:
    """FastAPI's validation problems as one error that names the field, the value and the reason."""
    first = most_specific_problem(problems)
    path = ".".join(str(part) for part in first["loc"][1:])  # after "body"
    kind = first["type"]
    reason = REASONS.get(kind, first["msg"]).format(**first.get("ctx", {}))
    if kind == "json_invalid":
        return ApiError(400, f"the body is {reason}", code="invalid_json")
    if not path:
        return ApiError(400, f"the body {reason}; send a JSON object as application/json", code="invalid_value")
    shown = path if kind in WITHOUT_VALUE else f"{path} = {shortened(first['input'])}"
    if kind == "none_required":
        reason = "not supported by this server; leave it out"
    code = CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    return ApiError(400, f"{shown}: {reason}", param=path, code=code)


def printable(text: str) -> str:
    """``text`` as one line of valid UTF-8, whatever a client put into it."""
    return " ".join(text.encode(errors="backslashreplace").decode().split())


def shortened(value: Any) -> str:
    """``repr(value)``, cut where it is long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_VALUE else text[: MAX_SHOWN_VALUE - 3] + "..."
