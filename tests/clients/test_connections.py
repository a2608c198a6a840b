"""Requests that are cancelled leave no connection open: an agent that runs for months cancels many."""

import asyncio
import contextlib
import random

import pytest

from edgebrush.clients import client as clients
from edgebrush.scenario.schema import Endpoint

pytestmark = pytest.mark.process

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n"


class SlowServer:
    """Answers GET requests with some delay, in parts, and counts its open connections."""

    def __init__(self, rng):
        self.rng, self.open = rng, 0

    async def serve(self, reader, writer):
        self.open += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(self.rng.uniform(0, 0.01))
                writer.write(ANSWER + bytes(2000))
                await asyncio.sleep(self.rng.uniform(0, 0.01))
                writer.write(bytes(2000))
        self.open -= 1
        writer.close()


async def open_after_cancellations(rng):
    """The connections that the server still sees after 600 requests, half of them cancelled at any moment."""
    slow = SlowServer(rng)
    server = await asyncio.start_server(slow.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = clients.ImagesClient(Endpoint(base_url=f"http://127.0.0.1:{port}/v1"), 64)
    for _ in range(20):
        requests = []
        for _ in range(30):
            requests.append(asyncio.create_task(client.get_load()))
            await asyncio.sleep(rng.uniform(0, 0.001))
            if rng.random() < 0.5:
                asyncio.get_running_loop().call_later(rng.uniform(0, 0.03), requests[-1].cancel)
        await asyncio.gather(*requests, return_exceptions=True)
    await asyncio.sleep(2 * clients.KEEPALIVE_S)  # idle connections expire
    await client.get_load()  # and a request closes the expired ones
    await asyncio.sleep(0.05)
    still_open = slow.open
    await client.close()
    server.close()
    return still_open


def test_cancelled_requests_leave_no_connection_open(monkeypatch):
    monkeypatch.setattr(clients, "KEEPALIVE_S", 0.2)
    assert asyncio.run(open_after_cancellations(random.Random(1))) == 1
