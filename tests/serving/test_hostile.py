"""Hostile input: nothing crashes, nothing leaks a traceback, memory stays bounded, and the next client is served."""

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from edgebrush.api import middleware, server
from tests.support.models import Formula
from tests.support.serving import AS_JOB, CIRCLE, IMAGES, connection, make_station, read_all, served, until

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
POST = f"POST {IMAGES} HTTP/1.1\r\nhost: x\r\n".encode()


@pytest.fixture(scope="module")
def quick():
    with served(make_station(steps=50)) as client:
        yield client


def is_clean(answer, statuses=range(400, 500)):
    assert answer.status_code in statuses, answer.text
    assert "Traceback" not in answer.text and 'File "' not in answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"} and len(answer.text) < 10_000


def still_serves(client):
    assert client.post(IMAGES, json=CIRCLE).status_code == 200


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_none(quick, name):
    is_clean(quick.post(IMAGES, content=BODIES[name], headers=JSON), {400, 413, 422})
    still_serves(quick)


@pytest.mark.parametrize("field", FIELDS)
def test_numbers_that_are_none(quick, field):
    for number in NUMBERS:
        body = f'{{"prompt": "circle", "num_inference_steps": 1, "{field}": {number}}}'
        answer = quick.post(IMAGES, content=body, headers=JSON)
        if answer.status_code != 200:
            is_clean(answer, {400, 422})
        else:
            assert (field, number) in {("deadline_s", "0.1e1"), ("guidance_scale", "0.1e1")}, "taken for a number"
    still_serves(quick)


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/xml", "a" * 5000])
def test_other_media_types(quick, kind):
    is_clean(quick.post(IMAGES, content=json.dumps(CIRCLE), headers={"content-type": kind}))


@pytest.mark.parametrize("size", [middleware.MAX_BODY + 1, middleware.MAX_DRAINED - 1])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_413(quick, size, announced):
    body = b" " * size
    content = body if announced else (body[at : at + 65536] for at in range(0, size, 65536))
    answer = quick.post(IMAGES, content=content, headers=JSON)
    is_clean(answer, {413})
    still_serves(quick)


def test_a_body_without_end_is_cut_off(quick):
    def endless():
        while True:
            yield b" " * 65536

    with suppress(httpx.TransportError):  # hung up on before it read the answer
        is_clean(quick.post(IMAGES, content=endless(), headers=JSON), {413})
    still_serves(quick)


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 300, "5000000000", "1, 2"])
def test_an_absurd_content_length(quick, length):
    with connection(quick) as opened:
        opened.sendall(POST + f"content-length: {length}\r\n\r\n".encode())
        status = read_all(opened).split(b"\r\n")[0]
    assert status.split()[1] in (b"400", b"413")
    still_serves(quick)


def test_a_body_that_trickles_is_408(monkeypatch):
    monkeypatch.setattr(middleware, "BODY_TIMEOUT_S", 0.3)
    with served(make_station()) as client, connection(client) as opened:
        opened.sendall(POST + b"content-length: 100\r\n\r\n")
        opened.sendall(b"{")
        began = time.monotonic()
        answer = read_all(opened)
        assert answer.startswith(b"HTTP/1.1 408") and b'"request_timeout"' in answer
        assert 0.2 < time.monotonic() - began < 8


@pytest.mark.parametrize(
    "said", [b"", b"GET /v1/load HTTP/1.1\r\nhost: x\r\nx-slow: ", b"GET /v1/load HTTP/1.1\r\nhost: x\r\n\r\nG"]
)
def test_a_head_that_does_not_come_is_hung_up_on(monkeypatch, said):
    """Also one that begins after an answer, and one that goes on trickling."""
    monkeypatch.setattr(server, "HEADERS_TIMEOUT_S", 0.3)
    with served(make_station()) as client, connection(client) as opened:
        began = time.monotonic()
        opened.sendall(said)
        read_all(opened)
        assert 0.2 < time.monotonic() - began < 8
        assert client.get("/healthz").status_code == 200


def with_a_small_buffer(listen):
    def listening(address):
        listener = listen(address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return listener

    return listening


def test_a_client_who_does_not_read_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(server, "READ_TIMEOUT_S", 0.3)
    monkeypatch.setattr(server, "listen", with_a_small_buffer(server.listen))
    station = make_station(steps=1000)
    body = json.dumps({"prompt": "circle", "num_inference_steps": 1000, "stream": True}).encode()
    with served(station) as client, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((client.base_url.host, client.base_url.port))
        deaf.sendall(POST + f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: station.connections == 1)
        until(lambda: station.connections == 0)
        assert not station.active and b"image_generation.completed" not in read_all(deaf)


def test_a_client_who_is_slow_to_be_served_is_not_hung_up_on(monkeypatch):
    monkeypatch.setattr(server, "HEADERS_TIMEOUT_S", 0.1)
    with served(make_station(speed=0.1)) as client:
        assert client.post(IMAGES, json={**CIRCLE, "num_inference_steps": 5}).status_code == 200


def test_connections_beyond_the_limit_are_hung_up_on(monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    with served(make_station()) as client:
        opened = [connection(client) for _ in range(6)]
        sockets = [each.__enter__() for each in opened]
        time.sleep(0.3)
        for each in sockets:
            each.settimeout(0.1)
        assert sum(hung_up(each) for each in sockets) == 3
        for each in opened:
            each.__exit__(None, None, None)
        time.sleep(0.3)
        assert client.get("/healthz").status_code == 200


def hung_up(opened):
    try:
        return opened.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(300),  # TLS
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 3 + b"\x00" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        b"GET /v1/load HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ],
)
def test_garbage_is_answered_or_hung_up_on(quick, garbage):
    with connection(quick) as opened:
        try:
            opened.sendall(garbage)
            opened.shutdown(1)
        except OSError:
            pass
        answer = read_all(opened)
    assert b"Traceback" not in answer and b" 500 " not in answer
    still_serves(quick)


def test_wrong_tokens_of_all_sorts():
    with served(make_station(), token="s3cret") as client:
        tokens = [b"", b"Bearer", b"Bearer\ts3cret", b"s3cret", b"Bearer  s3cret", b"Bearer " + b"x" * 9000]
        tokens += [b"Bearer \xff\xfe", b"Bearer s3cret, Bearer s3cret", b"Token s3cret"]
        for token in tokens:
            is_clean(client.get("/v1/load", headers={"authorization": token}), {401})


def test_memory_stays_bounded(quick):
    process = psutil.Process()

    def attack(number):
        body = [BODIES["deep and closed"], b" " * middleware.MAX_BODY, b'{"prompt": "' + b"x" * 60_000 + b'"}'][
            number % 3
        ]
        quick.post(IMAGES, content=body, headers=JSON)
        late = {**CIRCLE, "num_inference_steps": 1, "deadline_s": 86_000.0}
        quick.post(IMAGES, json=late, headers=AS_JOB if number % 2 else {})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attack, range(40)))  # allocators and caches have had their fill
        before = process.memory_info().rss
        list(pool.map(attack, range(200)))
    assert process.memory_info().rss - before < 20e6
    still_serves(quick)


def examples_of(client, mode, count):
    """Send what the server's own schema allows, or just does not, and hold the answers against it."""
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    schema.config.checks.not_a_server_error.expected_statuses = ["2xx", "4xx", "504"]  # deadline_s may be 5e-324
    bounded = settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for operation in schema.get_all_operations():

        @bounded
        @given(case=operation.ok().as_strategy(generation_mode=mode))
        def keeps_its_word(case):
            # Which classes a model knows is not in the schema.
            excluded = [checks.positive_data_acceptance]
            case.call_and_validate(base_url=str(client.base_url), excluded_checks=excluded)

        with suppress(Unsatisfiable):  # a route without parameters takes nothing wrong
            keeps_its_word()
    still_serves(client)


class AnyPrompt(Formula):
    """A formula that knows no classes, so that what the schema allows is mostly served."""

    def check(self, prompt):
        pass

    def encode(self, prompt):
        return len(prompt.text) % 3


@pytest.fixture(scope="module")
def willing():
    with served(make_station(backend=AnyPrompt(), steps=50, queue=1000)) as client:
        yield client


@pytest.mark.parametrize("mode", GenerationMode)
def test_the_schema_is_kept(willing, mode):
    examples_of(willing, mode, 4)


def test_the_schema_names_the_methods_of_a_path(willing):
    answer = willing.put(IMAGES + "/x")
    assert answer.status_code == 405 and answer.headers["allow"] == "DELETE, GET"


@pytest.mark.slow
@pytest.mark.parametrize("mode", GenerationMode)
def test_the_schema_is_kept_for_long(willing, mode):
    examples_of(willing, mode, 500)
