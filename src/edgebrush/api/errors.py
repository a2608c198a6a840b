"""Errors of the HTTP APIs: one exception type, and its response in OpenAI's error format."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from edgebrush.errors import REASONS, WITHOUT_VALUE, most_specific_problem

from .schema import ErrorDetail, ErrorReply

MAX_SHOWN_VALUE = 80  # characters of a rejected value that an error message repeats


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


def error_response(error: ApiError, close: bool = False) -> JSONResponse:
    """The HTTP response for an error, in OpenAI's format; ``close`` also ends the connection."""
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


def add_error_handlers(app: FastAPI) -> None:
    """Answer ``ApiError`` and invalid requests in OpenAI's format."""

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(validation_error(list(error.errors())))


def validation_error(problems: list[dict[str, Any]]) -> ApiError:
    """FastAPI's validation problems as one error that names the field, the value and the reason."""
    first = most_specific_problem(problems)
    path = ".".join(str(part) for part in first["loc"][1:])  # after "body"
    reason = REASONS.get(first["type"], first["msg"]).format(**first.get("ctx", {}))
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is {reason}", code="invalid_json")
    if not path:
        return ApiError(422, f"the body {reason}; send a JSON object as application/json", code="invalid_value")
    shown = path if first["type"] in WITHOUT_VALUE else f"{path} = {shortened(first['input'])}"
    return ApiError(422, f"{shown}: {reason}", param=path, code=first["type"])


def printable(text: str) -> str:
    """``text`` as one line of valid UTF-8, whatever a client put into it."""
    return " ".join(text.encode(errors="backslashreplace").decode().split())


def shortened(value: Any) -> str:
    """``repr(value)``, cut where it is long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_VALUE else text[: MAX_SHOWN_VALUE - 3] + "..."
