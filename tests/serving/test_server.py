"""A station behind a real server: clients that disconnect, the limit of requests, and the graceful shutdown."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import numpy as np
import pytest

from edgebrush.api import connections, server
from edgebrush.serving.app import create_app
from tests.support.models import Formula
from tests.support.serving import (
    AS_JOB,
    CIRCLE,
    IMAGES,
    TIMEOUT_S,
    Gate,
    connection,
    make_station,
    read_all,
    serve_app,
    served,
    until,
)

pytestmark = pytest.mark.process


def gated(**limits):
    """A station that runs one image at a time, and its gate, which is closed."""
    gate = Gate()
    return make_station(backend=gate, batch=1, **limits), gate


def send(opened, body):
    content = json.dumps(body).encode()
    headers = f"POST {IMAGES} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    opened.sendall(f"{headers}content-length: {len(content)}\r\n\r\n".encode() + content)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_disconnects_cancels_its_running_request(stream):
    station, gate = gated()
    with served(station) as client:
        with connection(client) as opened:
            send(opened, {**CIRCLE, "num_inference_steps": 50, "stream": stream})
            until(lambda: gate.blocked)
            [job] = station.engine.running
            assert station.connections == 1
        until(lambda: job.cancel_requested)
        gate.allow(1)  # the step that has begun
        until(lambda: station.connections == 0 and not station.active and not station.engine.running)
        assert job.state == "cancelled" and job.steps_done == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_disconnects_cancels_its_waiting_request(stream):
    station, _ = gated()
    with served(station) as client:
        client.post(IMAGES, json=CIRCLE, headers=AS_JOB)
        until(lambda: station.engine.running)
        with connection(client) as opened:
            send(opened, {**CIRCLE, "stream": stream})
            until(lambda: station.engine.waiting)
            assert station.connections == 2
        until(lambda: station.connections == 1 and len(station.active) == 1 and not station.engine.waiting)


class LargeImages(Formula):
    """Its images have 512 x 512 pixels, a quarter of a megabyte."""

    def decode(self, samples):
        return [np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8) for _ in samples]


def test_a_client_that_does_not_read_its_stream_cancels_it(monkeypatch):
    monkeypatch.setattr(connections, "READ_TIMEOUT_S", 0.3)
    monkeypatch.setattr(server, "listen", with_small_buffers(server.listen))
    station = make_station(backend=LargeImages())
    with served(station) as client, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((client.base_url.host, client.base_url.port))
        send(deaf, {**CIRCLE, "num_inference_steps": 100, "stream": True, "partial_images": 3})
        until(lambda: station.connections == 1)
        until(lambda: station.connections == 0)
        assert not station.active and b"image_generation.completed" not in read_all(deaf)


def with_small_buffers(listen):
    def listen_with_small_buffers(address):
        listener = listen(address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return listener

    return listen_with_small_buffers


def test_too_many_requests_at_once_are_429():
    station, _ = gated(connections=2)
    with served(station) as client:
        with connection(client) as waiting:
            send(waiting, CIRCLE)
            until(lambda: station.connections == 1)
            job = client.post(IMAGES, json=CIRCLE, headers=AS_JOB)
            rejected = client.post(IMAGES, json=CIRCLE)
            assert rejected.status_code == 429 and rejected.json()["error"]["code"] == "too_many_requests"
            assert client.get("/v1/load").json()["connections"] == 2 and client.get("/healthz").status_code == 200
        station.backend.backend.open()
        until(lambda: station.connections == 0)
        assert client.get(job.headers["location"]).json()["status"] == "completed"
        assert client.post(IMAGES, json=CIRCLE).status_code == 200


def test_requests_whose_body_does_not_arrive_take_no_places():
    station = make_station(connections=1)
    with served(station) as client, connection(client) as first, connection(client) as second:
        for slow in (first, second):
            slow.sendall(f"POST {IMAGES} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{{".encode())
        assert client.post(IMAGES, json=CIRCLE).status_code == 200


def test_a_response_does_not_wait_for_the_acknowledgement_of_its_headers():
    """40 ms with Nagle's algorithm; the fastest of ten counts, however busy the machine is."""
    with served(make_station()) as client:
        assert min(client.get("/healthz").elapsed.total_seconds() for _ in range(10)) < 0.035


@contextmanager
def shutdown_client(station, grace_s):
    """A client, a pool for its requests, and a function that begins the server's shutdown."""
    with (
        serve_app(create_app(station), grace_s, lambda: station.stop(grace_s)) as (server, url),
        httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client,
        ThreadPoolExecutor() as pool,
    ):
        yield client, pool, lambda: setattr(server, "should_exit", True)
    assert not station.alive


def test_a_shutdown_finishes_running_requests_and_rejects_waiting_ones():
    station, gate = gated()
    with shutdown_client(station, 5.0) as (client, pool, shut_down):
        running = pool.submit(client.post, IMAGES, json={**CIRCLE, "num_inference_steps": 8})
        until(lambda: station.engine.running)
        waiting = pool.submit(client.post, IMAGES, json=CIRCLE)
        until(lambda: station.engine.waiting)
        shut_down()
        assert waiting.result().status_code == 503 and waiting.result().json()["error"]["code"] == "stopping"
        assert int(waiting.result().headers["retry-after"]) > 0
        gate.open()
        assert running.result().status_code == 200


def test_after_the_grace_period_running_requests_are_cancelled():
    station, gate = gated()
    with shutdown_client(station, 0.1) as (client, pool, shut_down):
        running = pool.submit(client.post, IMAGES, json={**CIRCLE, "num_inference_steps": 100})
        until(lambda: gate.blocked)
        [job] = station.engine.running
        shut_down()
        until(lambda: job.cancel_requested)
        gate.open()
        assert running.result().status_code == 503 and job.steps_done == 1
