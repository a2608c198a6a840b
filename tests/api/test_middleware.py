"""Middleware in memory: tokens, limits of a body's size and time, and clients that disconnect."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse

from edgebrush.api.disconnects import wait_for_disconnect
from edgebrush.api.middleware import (
    BODY_TIMEOUT_S,
    MAX_BODY,
    MAX_DRAINED,
    BodyMiddleware,
    TokenMiddleware,
)
from tests.support.virtual_time import START_S, run_virtual


async def application(scope, receive, send):
    """Answers with the body's size."""
    body = await Request(scope, receive).body()
    await JSONResponse({"size": len(body)})(scope, receive, send)


def call(app, parts=(b"",), path="/v1/load", headers=(), pause_s=0.0):
    """The messages that an application sends, and the virtual seconds until its end.

    ``parts`` of the body arrive one by one, each after a pause; None is a disconnect.
    """
    sent = []
    arriving = list(parts)

    async def receive():
        await asyncio.sleep(pause_s)
        part = arriving.pop(0) if arriving else None
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": bool(arriving)}

    async def send(message):
        sent.append(message)

    async def run():
        await app({"type": "http", "method": "POST", "path": path, "headers": list(headers)}, receive, send)
        return asyncio.get_running_loop().time() - START_S

    return sent, run_virtual(run())


def status_of(sent):
    return sent[0]["status"]


@pytest.mark.parametrize("value", [b"Bearer s3cret", b"bearer s3cret", b"BEARER s3cret"])
def test_the_token_is_accepted_with_any_case_of_its_scheme(value):
    sent, _ = call(TokenMiddleware(application, "s3cret"), headers=[(b"authorization", value)])
    assert status_of(sent) == 200


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"s3cret",
        b"Bearer\ts3cret",
        b"Bearer  s3cret",
        b"Bearer s3cre",
        b"Bearer s3cret, Bearer s3cret",
        b"Token s3cret",
        b"Bearer \xff\xfe",
    ],
)
def test_wrong_tokens_are_401(value):
    sent, _ = call(TokenMiddleware(application, "s3cret"), headers=[(b"authorization", value)])
    assert status_of(sent) == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_monitoring_needs_no_token(path):
    assert status_of(call(TokenMiddleware(application, "s3cret"), path=path)[0]) == 200
    assert status_of(call(TokenMiddleware(application, "s3cret"), path=f"{path}/x")[0]) == 401


def test_a_body_passes_whole():
    sent, _ = call(BodyMiddleware(application), [b"a" * 1000] * 3)
    assert status_of(sent) == 200 and sent[1]["body"] == b'{"size":3000}'


@pytest.mark.parametrize(
    ("parts", "status"),
    [([b"a" * MAX_BODY], 200), ([b"a" * (MAX_BODY + 1)], 413), ([b"a" * MAX_BODY, b"a"], 413)],
)
def test_the_size_of_a_body_is_limited(parts, status):
    assert status_of(call(BodyMiddleware(application), parts)[0]) == status


def test_a_body_without_an_end_is_read_up_to_a_limit():
    read = MAX_DRAINED // MAX_BODY + 1  # parts
    sent, seconds = call(BodyMiddleware(application), [b"a" * MAX_BODY] * (2 * read), pause_s=0.01)
    assert status_of(sent) == 413 and (b"connection", b"close") in sent[0]["headers"]
    assert seconds == pytest.approx(0.01 * read)


def test_an_announced_size_is_rejected_without_reading():
    for length in (str(MAX_DRAINED + 1), "9" * 300):
        sent, seconds = call(BodyMiddleware(application), headers=[(b"content-length", length.encode())], pause_s=1.0)
        assert status_of(sent) == 413 and seconds == 0.0


def test_a_slow_body_is_408():
    sent, seconds = call(BodyMiddleware(application), [b"a"] * 1000, pause_s=0.7)
    assert status_of(sent) == 408 and seconds == pytest.approx(BODY_TIMEOUT_S)
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_client_that_disconnects_early_gets_no_response():
    assert call(BodyMiddleware(application), [b"a", None])[0] == []


def test_the_application_sees_the_disconnect():
    async def waits(scope, receive, send):
        request = Request(scope, receive)
        await request.body()
        await wait_for_disconnect(request)

    sent, seconds = call(BodyMiddleware(waits), [b"{}"], pause_s=2.0)
    assert sent == [] and seconds == 4.0  # the body after 2 s, the disconnect 2 s later
