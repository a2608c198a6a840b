"""The server's address: what cannot be listened on, and which hosts it answers to."""

import errno
import socket
import threading
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

import edgebrush
from edgebrush.api.server import Address, Server
from edgebrush.errors import UserError
from tests.support.serving import serve_app


@pytest.mark.process
def test_a_used_port_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        with pytest.raises(UserError, match=f"port = {port}: cannot be listened on .* --port 0 finds a free one"):
            Server(FastAPI(), Address(port=port), 1.0, lambda: None, lambda: None)


@pytest.mark.process
def test_a_server_checks_host_and_origin_of_any_application():
    app = FastAPI()
    app.post("/")(lambda: "ok")
    with serve_app(app, address=Address(port=0, allowed_hosts=("bs-1",))) as (_, url):
        assert httpx2.post(url).status_code == httpx2.post(url, headers={"host": "bs-1"}).status_code == 200
        assert httpx2.post(url, headers={"host": "evil.example"}).status_code == 421
        response = httpx2.post(url, headers={"origin": "https://evil.example"})
        assert response.status_code == 403 and "server" not in response.headers


def test_every_server_of_the_package_is_this_one():
    """So each checks hosts and origins, and bounds its connections."""
    package = Path(edgebrush.__file__).parent
    users = {str(path.relative_to(package)) for path in package.rglob("*.py") if "uvicorn" in path.read_text()}
    assert users == {"api/server.py", "api/connections.py"}


@pytest.mark.process
def test_a_server_serves_where_its_address_cannot_be_printed():
    def print_address():
        printed.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    printed, app = threading.Event(), FastAPI()
    app.get("/healthz")(lambda: {"status": "ok"})
    server = Server(app, Address(port=0), 1.0, print_address, lambda: None)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert printed.wait(10.0)
        assert httpx2.get(f"{server.url}/healthz", timeout=10.0).json() == {"status": "ok"}
    finally:
        server.should_exit = True
        thread.join(30)
