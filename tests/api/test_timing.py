"""The header `Server-Timing`: a request's time at the server, without the time in which its body arrives."""

import asyncio
import sys
import threading
import time

import httpx2
import pytest
from fastapi import FastAPI

from edgebrush.api.timing import ServerTimingMiddleware, server_seconds
from tests.support.serving import CIRCLE, IMAGES, in_memory, make_station, serve_app


async def slow_app(scope, receive, send):
    while (await receive())["more_body"]:
        pass
    await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


def test_the_arrival_of_the_body_does_not_count():
    async def body():
        for _ in range(3):
            await asyncio.sleep(0.1)
            yield b"x"

    async def run():
        transport = httpx2.ASGITransport(ServerTimingMiddleware(slow_app))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/", content=body())

    reply = asyncio.run(run())
    assert 0.05 <= server_seconds(reply.headers["server-timing"]) < 0.25


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports when a socket last received data")
def test_a_request_that_waits_for_a_busy_event_loop_counts_from_its_arrival():
    app = FastAPI()
    app.add_middleware(ServerTimingMiddleware)

    @app.get("/block")
    async def block():
        time.sleep(1.0)

    @app.get("/quick")
    async def quick():
        pass

    with serve_app(app) as (_, url), httpx2.Client(base_url=url) as busy, httpx2.Client(base_url=url) as client:
        client.get("/quick")  # opens the connection
        blocking = threading.Thread(target=busy.get, args=("/block",))
        blocking.start()
        time.sleep(0.3)
        started_at = time.perf_counter()
        reply = client.get("/quick")
        took_s = time.perf_counter() - started_at
        blocking.join()
    assert took_s > 0.3 and took_s - server_seconds(reply.headers["server-timing"]) < 0.2


def test_a_station_states_at_least_what_it_reports():
    with in_memory(make_station()) as client:
        reply = client.post(IMAGES, json=CIRCLE)
        invalid = client.post(IMAGES, json={})
    stated_s, cost = server_seconds(reply.headers["server-timing"]), reply.json()
    assert cost["queue_s"] + cost["compute_s"] <= stated_s < 20 and "server-timing" in invalid.headers


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("app;dur=12.5", 0.0125),
        ("cache;dur=3, app; dur=20", 0.02),
        ("app ;dur=1 , other", 0.001),
        ("", None),
        ("app", None),
        ("myapp;dur=3", None),
        ("app;dur=-3", None),
        ("app;dur=1e99", None),
        ("app;dur=nan", None),
        ("app;dur=" + "9" * 400, None),
    ],
)
def test_only_plausible_numbers_are_read(header, seconds):
    assert server_seconds(header) == seconds
