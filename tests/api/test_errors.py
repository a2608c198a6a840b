"""Errors in OpenAI's format: messages, headers, and what is repeated of a client's input."""

import json

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from edgebrush.api.errors import ApiError, add_error_handlers, error_response, printable, shortened
from edgebrush.api.schema import ImageRequest


def headers_of(error, **options):
    return error_response(error, **options).headers


def test_the_body_has_openais_fields():
    response = error_response(ApiError(400, "n = 11: must be at most 10", param="n", code="invalid_value"))
    assert response.status_code == 400
    assert json.loads(response.body)["error"] == {
        "message": "n = 11: must be at most 10",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_value",
    }


def test_headers_follow_the_status():
    assert headers_of(ApiError(429, "full", retry_after_s=7))["retry-after"] == "7"
    assert headers_of(ApiError(401, "no token"))["www-authenticate"] == "Bearer"
    assert headers_of(ApiError(504, "too late"))["x-should-retry"] == "false"
    assert headers_of(ApiError(408, "too slow"), close=True)["connection"] == "close"
    assert {"retry-after", "www-authenticate", "x-should-retry", "connection"}.isdisjoint(headers_of(ApiError(400, "")))


@pytest.fixture(scope="module")
def client():
    app = FastAPI()
    add_error_handlers(app)

    @app.post("/")
    async def accept(body: ImageRequest) -> str:
        return body.prompt

    return TestClient(app)


@pytest.mark.parametrize(
    ("content", "status", "message", "param"),
    [
        (b"{", 400, "the body is not valid JSON", None),
        (b"", 400, "the body this field is missing; add it; send a JSON object as application/json", None),
        (b"[]", 400, "the body must be a mapping of fields; send a JSON object as application/json", None),
        (b"{}", 400, "prompt: this field is missing; add it", "prompt"),
        (b'{"prompt": "x", "n": 11}', 400, "n = 11: must be at most 10", "n"),
        (b'{"prompt": "x", "sed": 1}', 400, "sed: no such field; remove it or check its spelling", "sed"),
        (b'{"prompt": "x", "size": 5}', 400, "size = 5: must be text; put it in quotes", "size"),
    ],
)
def test_invalid_requests_name_field_value_and_reason(client, content, status, message, param):
    response = client.post("/", content=content, headers={"content-type": "application/json"})
    error = response.json()["error"]
    assert response.status_code == status and error["message"].startswith(message) and error["param"] == param


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b'{"prompt": "x", "sed": 1}', "unknown_parameter"),
        (b"{}", "missing_required_parameter"),
        (b'{"prompt": 5}', "invalid_type"),
        (b'{"prompt": "x", "n": 11}', "invalid_value"),
        (b'{"prompt": "x", "svg": {}}', "invalid_value"),
    ],
)
def test_codes_are_openais(client, content, code):
    response = client.post("/", content=content, headers={"content-type": "application/json"})
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (400, "invalid_request_error", code)


def test_unknown_paths_and_methods_have_openais_format(client):
    for response, status in ((client.get("/nowhere"), 404), (client.delete("/"), 405)):
        assert response.status_code == status
        assert response.json()["error"]["type"] == "invalid_request_error"
    assert client.delete("/").headers["allow"] == "POST"


def test_messages_are_one_line_of_valid_utf8():
    assert printable("a\r\nb\tc") == "a b c"
    assert printable("\ud800").isascii()


def test_long_values_are_cut():
    assert shortened("x" * 78) == repr("x" * 78)
    assert len(shortened("x" * 79)) == 80 and shortened("x" * 79).endswith("...")
