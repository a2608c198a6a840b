"""Connections over real sockets: request smuggling is refused, silent and slow clients do not shut others out."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from edgebrush.api import connections
from edgebrush.api.connections import make_room, peer_network
from edgebrush.api.server import Address, allow_open_files
from tests.support.processes import started
from tests.support.serving import (
    CIRCLE,
    IMAGES,
    TIMEOUT_S,
    connection,
    make_station,
    read_all,
    serve_app,
    served,
    until,
)

GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"
HEAD = b"POST /echo HTTP/1.1\r\nhost: localhost\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
SERVED_S = 5.0  # half of the time after which silent sockets are closed; on a quiet machine it takes 0.1 s
CERTIFY = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"


class App(FastAPI):
    """Routes that answer at once, late, or with an endless stream. ``paths`` collects the requests that reach it."""

    def __init__(self):
        super().__init__()
        self.streams = self.streams_opened = 0
        self.paths = []
        self.get("/healthz")(self.healthz)
        self.get("/late")(self.late)
        self.get("/stream")(self.stream)
        self.get("/smuggled")(self.healthz)
        self.post("/echo")(self.echo)
        self.post("/stream")(self.stream)

    async def healthz(self, request: Request) -> str:
        self.paths.append(request.url.path)
        return "ok"

    async def echo(self, request: Request) -> str:
        body = await request.body()
        self.paths.append(request.url.path)
        return body.decode()

    async def late(self) -> str:
        await asyncio.sleep(0.4)
        return "ok"

    async def stream(self) -> StreamingResponse:
        return StreamingResponse(self.chunks())

    async def chunks(self):
        self.streams += 1
        self.streams_opened += 1
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            self.streams -= 1


@pytest.fixture(scope="module")
def app():
    return App()


@pytest.fixture(scope="module")
def client(app):
    with serve_app(app) as (_, url), httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client:
        yield client


def exchange(client, sent):
    """All that a server answers to some bytes, until it closes the connection."""
    with connection(client) as opened:
        opened.sendall(sent)
        return read_all(opened)


SMUGGLING = {
    "length and chunked": HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked and length": CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": HEAD + b"content-length: 2\r\ncontent-length: 40\r\n\r\n{}" + SMUGGLED,
    "the same length twice": HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}" + SMUGGLED,
    "a list of lengths": HEAD + b"content-length: 2, 2\r\n\r\n{}" + SMUGGLED,
    "a signed length": HEAD + b"content-length: +2\r\n\r\n{}" + SMUGGLED,
    "a length in hexadecimal": HEAD + b"content-length: 0x2\r\n\r\n{}" + SMUGGLED,
    "a length with an underscore": HEAD + b"content-length: 1_0\r\n\r\n{}" + SMUGGLED,
    "an unknown encoding": HEAD + b"transfer-encoding: xchunked\r\n\r\n" + SMUGGLED,
    "two encodings": CHUNKED + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "encodings in a list": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks in HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + b"\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk size that is no number": CHUNKED + b"\r\nzz\r\n" + SMUGGLED,
    "a negative chunk size": CHUNKED + b"\r\n-1\r\n" + SMUGGLED,
    "a chunk size of 30 digits": CHUNKED + b"\r\n" + b"f" * 30 + b"\r\n" + SMUGGLED,
    "a chunk longer than its size": CHUNKED + b"\r\n2\r\n{}{}\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk size that ends with LF": CHUNKED + b"\r\n2;\n\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "a continued line": HEAD + b"x-first: 1\r\n content-length: 9\r\ncontent-length: 2\r\n\r\n{}" + SMUGGLED,
    "a continued length": HEAD + b"content-length:\r\n 2\r\n\r\n{}" + SMUGGLED,
    "a continuation as the first line": b"POST /echo HTTP/1.1\r\n host: localhost\r\n\r\n" + SMUGGLED,
    "bare LF": HEAD.replace(b"\r\n", b"\n") + b"content-length: 2\n\n{}" + SMUGGLED,
    "bare LF after a field": HEAD + b"x: y\ncontent-length: 2\r\n\r\n{}" + SMUGGLED,
    "bare LF at the end": HEAD + b"content-length: 2\r\n\n{}" + SMUGGLED,
    "bare CR": HEAD + b"x: y\rcontent-length: 2\r\n\r\n{}" + SMUGGLED,
    "a null byte": HEAD + b"x: \x00\r\ncontent-length: 2\r\n\r\n{}" + SMUGGLED,
    "a space before the colon": HEAD + b"content-length : 2\r\n\r\n{}" + SMUGGLED,
    "a tab before the colon": HEAD + b"transfer-encoding\t: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a space in a name": HEAD + b"content length: 2\r\n\r\n{}" + SMUGGLED,
    "a space before a name": HEAD + b" content-length: 2\r\n\r\n{}" + SMUGGLED,
    "no colon": HEAD + b"content-length 2\r\n\r\n{}" + SMUGGLED,
    "no name": HEAD + b": 2\r\n\r\n{}" + SMUGGLED,
    "two hosts": HEAD + b"host: evil.example\r\ncontent-length: 2\r\n\r\n{}" + SMUGGLED,
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n" + SMUGGLED,
    "a target with a space": b"GET /healthz /x HTTP/1.1\r\nhost: localhost\r\n\r\n" + SMUGGLED,
    "an empty line first": b"\r\nGET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n" + SMUGGLED,
}


@pytest.mark.process
@pytest.mark.parametrize("before", [b"", HEAD + b"content-length: 2\r\n\r\nok"], ids=["first", "kept alive"])
@pytest.mark.parametrize("name", SMUGGLING)
def test_request_smuggling_is_refused_and_the_connection_closed(client, app, name, before):
    app.paths.clear()
    answers = exchange(client, before + SMUGGLING[name]).split(b"HTTP/1.1 ")[1:]
    refusal = answers.pop()
    assert [each[:3] for each in answers] == ([b"200"] if before else [])
    assert refusal[:3] in (b"400", b"501") and b"connection: close" in refusal.lower()
    assert b"x-content-type-options: nosniff" in refusal and b'"invalid_http"' in refusal
    assert json.loads(refusal.partition(b"\r\n\r\n")[2])["error"]["message"].startswith("the request is not valid")
    assert "/smuggled" not in app.paths and client.get("/healthz").status_code == 200


@pytest.mark.process
def test_nothing_is_read_after_a_chunked_body(client, app):
    app.paths.clear()
    answer = exchange(client, CHUNKED + b"\r\n2\r\nok\r\n0\r\n\r\n" + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer and answer.endswith(b'"ok"')
    assert app.paths == ["/echo"]


@pytest.mark.process
def test_pipelined_requests_and_slow_heads_are_served(client, app):
    app.paths.clear()
    request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-tab: a\tb\r\n\r\n"
    last = request.replace(b"x-tab: a\tb", b"connection: close")
    assert exchange(client, request * 2 + last).count(b"HTTP/1.1 200") == 3
    with connection(client) as opened:
        for at in range(len(last)):
            opened.sendall(last[at : at + 1])
        assert read_all(opened).startswith(b"HTTP/1.1 200")


@pytest.mark.process
def test_an_invalid_body_during_the_response_ends_the_connection_without_a_traceback(client, app, caplog):
    with connection(client) as opened:
        opened.sendall(CHUNKED.replace(b"/echo", b"/stream") + b"\r\n")
        assert opened.recv(65536).startswith(b"HTTP/1.1 200")
        opened.sendall(b"zz\r\n")
        read_all(opened)
    until(lambda: app.streams == 0)
    assert client.get("/healthz").status_code == 200 and not caplog.records


@pytest.mark.process
@pytest.mark.parametrize(
    "sent",
    [b"", GET + b"x-slow: ", GET + b"\r\nG"],
    ids=["nothing", "half of the headers", "half of a second request"],
)
def test_a_connection_without_complete_headers_is_closed(monkeypatch, client, sent):
    monkeypatch.setattr(connections, "HEADERS_TIMEOUT_S", 0.3)
    with connection(client) as opened:
        start = time.monotonic()
        opened.sendall(sent)
        read_all(opened)
        assert 0.2 < time.monotonic() - start < 8
        assert client.get("/healthz").status_code == 200


@pytest.mark.process
def test_a_slow_response_is_not_cut_off(monkeypatch, client):
    monkeypatch.setattr(connections, "HEADERS_TIMEOUT_S", 0.1)
    assert client.get("/late").status_code == 200


@pytest.mark.process
def test_a_client_that_does_not_read_is_disconnected(monkeypatch, client, app):
    monkeypatch.setattr(connections, "READ_TIMEOUT_S", 0.3)
    opened_before = app.streams_opened
    with connection(client) as deaf:
        deaf.sendall(b"GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
        until(lambda: app.streams_opened > opened_before)
        until(lambda: app.streams == 0)


@contextmanager
def silent_sockets(count, host, port, sent=b""):
    """Connections that send some bytes and then nothing."""
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            opened.append(stack.enter_context(socket.create_connection((host, port), timeout=TIMEOUT_S)))
            opened[-1].sendall(sent)
        yield opened


def is_closed(opened):
    opened.settimeout(0)
    try:
        return opened.recv(1) == b""
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False


@pytest.mark.process
@pytest.mark.parametrize(
    "sent",
    [b"", b"POST ", f"POST {IMAGES} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n".encode()],
    ids=["silent", "half a head", "no body"],
)
def test_a_client_gets_its_image_beside_600_silent_sockets(sent):
    with (
        served(make_station()) as client,
        silent_sockets(600, client.base_url.host, client.base_url.port, sent) as silent,
    ):
        start = time.monotonic()
        response = httpx2.post(f"{client.base_url}{IMAGES}", json=CIRCLE, timeout=TIMEOUT_S)
        assert response.status_code == 200 and time.monotonic() - start < SERVED_S
        closed = sum(map(is_closed, silent))
        assert 600 - closed <= connections.MAX_CONNECTIONS
        assert all(map(is_closed, silent[: closed - 10])), "the longest silent are closed first"


@pytest.mark.process
def test_a_client_gets_its_image_beside_600_silent_tls_sockets(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run([*CERTIFY.split(), "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=60)
    app = App()
    with (
        serve_app(app, address=Address(port=0, certificate=cert, key=key)) as (server, url),
        silent_sockets(600, "127.0.0.1", server.listener.getsockname()[1]) as silent,
    ):
        trusted = ssl.create_default_context(cafile=cert)
        start = time.monotonic()
        with httpx2.Client(base_url=url, verify=trusted, timeout=TIMEOUT_S) as client:
            assert client.post("/echo", content=b"x" * 40_000).text == f'"{"x" * 40_000}"'
            assert time.monotonic() - start < SERVED_S
            assert client.get("/healthz").status_code == 200
        assert 600 - sum(map(is_closed, silent)) <= connections.MAX_CONNECTIONS


SERVER = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
from fastapi import FastAPI
from edgebrush.api.server import Address, Server, run
from edgebrush.logs import configure_logging
configure_logging()
app = FastAPI()
app.get("/healthz")(lambda: "ok")
server = Server(app, Address(port=0), 1.0, lambda: print(server.url, flush=True), lambda: None)
run(server)
"""


@pytest.mark.process
def test_a_flood_of_connections_does_not_use_up_the_descriptors():
    """Of a process that may have 1,024; the kernel completes connections faster than the server can close them."""
    allow_open_files(4000)
    with started(sys.executable, "-c", SERVER) as (process, url), ExitStack() as stack:
        address = httpx2.URL(url).host, httpx2.URL(url).port
        for _ in range(1500):
            flood = stack.enter_context(socket.socket())
            flood.setblocking(False)
            flood.connect_ex(address)
        start = time.monotonic()
        assert httpx2.get(f"{url}/healthz", timeout=TIMEOUT_S).text == '"ok"'
        assert time.monotonic() - start < SERVED_S
        process.terminate()
        assert process.stdout.read() == "", "no error is logged"


@pytest.mark.process
def test_requests_in_progress_are_never_closed(monkeypatch, client):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    late = b"GET /late HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    with silent_sockets(3, client.base_url.host, client.base_url.port, late) as active:
        time.sleep(0.1)  # until the server has read them
        with silent_sockets(3, client.base_url.host, client.base_url.port) as silent:
            until(lambda: all(map(is_closed, silent)))  # there is no other place to give them
        for each in active:
            each.settimeout(TIMEOUT_S)
            assert read_all(each).startswith(b"HTTP/1.1 200")
    assert client.get("/healthz").status_code == 200


class FakeConnection:
    """What ``make_room`` knows of a connection."""

    def __init__(self, peer, silent_since, is_waiting=True):
        self.peer, self.silent_since, self.is_waiting, self.closed = peer, silent_since, is_waiting, False
        self.transport = SimpleNamespace(abort=self.close)

    def close(self):
        self.closed = True


def test_a_peers_connections_push_out_each_other_first(monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 4)
    kept_alive = FakeConnection("192.0.2.1", 1.0)  # the longest silent, but alone
    busy = FakeConnection("192.0.2.9", 2.0, is_waiting=False)
    silent = [FakeConnection("192.0.2.9", 3.0), FakeConnection("192.0.2.9", 4.0)]
    opened = {kept_alive, busy, *silent}
    for peer in ("192.0.2.9", "198.51.100.7"):
        opened.add(newest := FakeConnection(peer, 5.0))
        make_room(opened, newest)
        assert len(opened) == 4 and newest in opened
    assert [each.closed for each in (kept_alive, busy, *silent)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (("192.0.2.7", 5000), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 5000, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5000, 0, 2), "fe80::/64"),
        (None, ""),
    ],
)
def test_a_peer_is_an_address_or_an_ipv6_network(address, network):
    transport = SimpleNamespace(get_extra_info=lambda name: address if name == "peername" else None)
    assert peer_network(transport) == network
