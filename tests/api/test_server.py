"""The HTTP server over real sockets: timeouts of slow clients, the limit of connections, addresses in use."""

import asyncio
import socket
import time

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from edgebrush.api import server
from edgebrush.api.server import Address, Server
from edgebrush.errors import UserError
from tests.support.serving import TIMEOUT_S, connection, read_all, serve_app, until

pytestmark = pytest.mark.process
GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"


class App(FastAPI):
    """Three routes: one answers at once, one late, one with an endless stream; ``streams`` counts open ones."""

    def __init__(self):
        super().__init__()
        self.streams = self.streams_opened = 0
        self.get("/healthz")(self.healthz)
        self.get("/late")(self.late)
        self.get("/stream")(self.stream)

    async def healthz(self) -> str:
        return "ok"

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


@pytest.fixture
def app():
    return App()


@pytest.fixture
def client(app):
    with serve_app(app) as (_, url), httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
        yield client


@pytest.mark.parametrize(
    "sent",
    [b"", GET + b"x-slow: ", GET + b"\r\nG"],
    ids=["nothing", "half of the headers", "half of a second request"],
)
def test_a_connection_without_complete_headers_is_closed(monkeypatch, client, sent):
    monkeypatch.setattr(server, "HEADERS_TIMEOUT_S", 0.3)
    with connection(client) as opened:
        start = time.monotonic()
        opened.sendall(sent)
        read_all(opened)
        assert 0.2 < time.monotonic() - start < 8
        assert client.get("/healthz").status_code == 200


def test_a_slow_response_is_not_cut_off(monkeypatch, client):
    monkeypatch.setattr(server, "HEADERS_TIMEOUT_S", 0.1)
    assert client.get("/late").status_code == 200


def test_a_client_that_does_not_read_is_disconnected(monkeypatch, client, app):
    monkeypatch.setattr(server, "READ_TIMEOUT_S", 0.3)
    with connection(client) as deaf:
        deaf.sendall(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        until(lambda: app.streams_opened)
        until(lambda: app.streams == 0)


def test_connections_beyond_the_limit_are_closed(monkeypatch, client):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    opened = [socket.create_connection((client.base_url.host, client.base_url.port)) for _ in range(6)]
    for each in opened:
        each.settimeout(0)
    until(lambda: sum(is_closed(each) for each in opened) == 3)
    for each in opened:
        each.close()
    until(lambda: can_connect(client))


def is_closed(opened):
    try:
        return opened.recv(1) == b""
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False


def can_connect(client):
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_used_port_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        with pytest.raises(UserError, match=f"port = {port}: cannot be listened on .* --port 0 finds a free one"):
            Server(FastAPI(), Address(port=port), 1.0, lambda: None, lambda: None)
