"""Hostile input: no crash, no traceback in a response, bounded memory, and the next client is served."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx2
import psutil
import pytest

from edgebrush.api import middleware
from tests.support.serving import AS_JOB, CIRCLE, IMAGES, connection, make_station, read_all, served

pytestmark = pytest.mark.process

JSON = {"content-type": "application/json"}
DEEP = 30_000
BODIES = {
    "nothing": b"",
    "no json": b"\x00\xff\xfe{",
    "not utf-8": b'{"prompt": "\xff"}',
    "a number": b"1",
    "null": b"null",
    "a list": b"[{}]",
    "deep lists": b"[" * DEEP,
    "deep objects": b'{"prompt":' * (DEEP // 5),
    "deep and closed": b'{"prompt": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "cut off": b'{"prompt": "circle"',
    "two": b'{"prompt": "circle"}{"prompt": "circle"}',
    "a lone surrogate": b'{"prompt": "\\ud800"}',
    "a field of a lone surrogate": b'{"prompt": "circle", "\\ud800\\r\\n": 1}',
    "a null byte": b'{"prompt": "circle\\u0000"}',
}
NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400, "9" * 5000, "-0.0", "1e-400", "0.1e1", "true"]
FIELDS = ["n", "num_inference_steps", "guidance_scale", "seed", "service_class", "deadline_s", "partial_images"]
POST = f"POST {IMAGES} HTTP/1.1\r\nhost: localhost\r\n".encode()


@pytest.fixture(scope="module")
def client():
    with served(make_station(steps=50)) as client:
        yield client


def assert_clean_error(response, statuses=range(400, 500)):
    assert response.status_code in statuses, response.text
    assert "Traceback" not in response.text and 'File "' not in response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"} and len(response.text) < 10_000


def assert_still_serves(client):
    assert client.post(IMAGES, json=CIRCLE).status_code == 200


@pytest.mark.parametrize("name", BODIES)
def test_invalid_bodies(client, name):
    assert_clean_error(client.post(IMAGES, content=BODIES[name], headers=JSON), {400, 413, 422})
    assert_still_serves(client)


@pytest.mark.parametrize("field", FIELDS)
def test_invalid_numbers(client, field):
    for number in NUMBERS:
        body = f'{{"prompt": "circle", "num_inference_steps": 1, "{field}": {number}}}'
        response = client.post(IMAGES, content=body, headers=JSON)
        if response.status_code != 200:
            assert_clean_error(response, {400, 422})
        else:
            assert (field, number) in {("deadline_s", "0.1e1"), ("guidance_scale", "0.1e1")}, "accepted as a number"
    assert_still_serves(client)


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/xml", "a" * 5000])
def test_other_media_types(client, kind):
    assert_clean_error(client.post(IMAGES, content=json.dumps(CIRCLE), headers={"content-type": kind}))


@pytest.mark.parametrize("size", [middleware.MAX_BODY + 1, middleware.MAX_DRAINED - 1])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_413(client, size, announced):
    body = b" " * size
    content = body if announced else (body[at : at + 65536] for at in range(0, size, 65536))
    response = client.post(IMAGES, content=content, headers=JSON)
    assert_clean_error(response, {413})
    assert_still_serves(client)


def test_an_endless_body_is_cut_off(client):
    def endless():
        while True:
            yield b" " * 65536

    with suppress(httpx2.TransportError):  # disconnected before it read the response
        assert_clean_error(client.post(IMAGES, content=endless(), headers=JSON), {413})
    assert_still_serves(client)


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 300, "5000000000", "1, 2"])
def test_invalid_content_lengths(client, length):
    with connection(client) as opened:
        opened.sendall(POST + f"content-length: {length}\r\n\r\n".encode())
        status = read_all(opened).split(b"\r\n")[0]
    assert status.split()[1] in (b"400", b"413")
    assert_still_serves(client)


def test_a_slow_body_is_408(monkeypatch):
    monkeypatch.setattr(middleware, "BODY_TIMEOUT_S", 0.3)
    with served(make_station()) as client, connection(client) as opened:
        opened.sendall(POST + b"content-length: 100\r\n\r\n")
        opened.sendall(b"{")
        start = time.monotonic()
        response = read_all(opened)
        assert response.startswith(b"HTTP/1.1 408") and b'"request_timeout"' in response
        assert 0.2 < time.monotonic() - start < 8


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(300),  # TLS
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" * 3 + b"\x00" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        b"GET /v1/load HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ],
)
def test_garbage_is_answered_or_disconnected(client, garbage):
    with connection(client) as opened:
        try:
            opened.sendall(garbage)
            opened.shutdown(1)
        except OSError:
            pass
        response = read_all(opened)
    assert b"Traceback" not in response and b" 500 " not in response
    assert_still_serves(client)


def test_memory_is_bounded(client):
    process = psutil.Process()

    def attack(number):
        body = [BODIES["deep and closed"], b" " * middleware.MAX_BODY, b'{"prompt": "' + b"x" * 60_000 + b'"}'][
            number % 3
        ]
        client.post(IMAGES, content=body, headers=JSON)
        late = {**CIRCLE, "num_inference_steps": 1, "deadline_s": 86_000.0}
        client.post(IMAGES, json=late, headers=AS_JOB if number % 2 else {})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attack, range(40)))  # allocators and caches reach their size
        before = process.memory_info().rss
        list(pool.map(attack, range(200)))
    assert process.memory_info().rss - before < 20e6
    assert_still_serves(client)
