"""Stations to test, with a formula instead of a network: clients in memory, and clients of real servers."""

import socket
import threading
import time
from contextlib import contextmanager

import httpx2
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from edgebrush.api.server import Address, Server
from edgebrush.diffusion.samplers import Euler
from edgebrush.profiles.catalogue import load_profile
from edgebrush.serving.app import create_app
from edgebrush.serving.station import Limits, Station
from tests.support.models import Formula

FIGURES = load_profile("fashion-heavy-cpu")
PARTS = {"encode_s": 0.002, "decode_s": 0.003, "round_intercept_s": 0.006, "round_slope_s": 0.002}
PROFILE = FIGURES.model_copy(update={"compute": FIGURES.compute.model_copy(update=PARTS)})
CIRCLE = {"prompt": "circle", "num_inference_steps": 2, "seed": 1}
IMAGES = "/v1/images/generations"
AS_JOB = {"Prefer": "respond-async"}
TIMEOUT_S = 20.0


class Gate(Formula):
    """The formula, whose evaluations wait at a gate: ``allow(n)`` lets n of them pass, ``open()`` all."""

    def __init__(self):
        self.changed, self.allowed, self.blocked = threading.Condition(), 0, False

    def allow(self, evaluations):
        with self.changed:
            self.allowed += evaluations
            self.changed.notify_all()

    def open(self):
        self.allow(10**9)

    def predict(self, samples, times, conditions):
        with self.changed:
            self.blocked = self.allowed == 0
            assert self.changed.wait_for(lambda: self.allowed > 0, 60), "the gate stayed closed"
            self.allowed, self.blocked = self.allowed - 1, False
        return super().predict(samples, times, conditions)


def make_station(speed=None, backend=None, **limits) -> Station:
    return Station("bs", backend or Formula(), Euler(), PROFILE, Limits(**limits), speed)


@contextmanager
def in_memory(station, token=None, headers=None):
    """A client of a station's application, without a server. A closed gate is opened at the end."""
    with TestClient(create_app(station, token), raise_server_exceptions=False, headers=headers) as client:
        try:
            yield client
        finally:
            open_gate(station)


@contextmanager
def served(station, token=None, grace_s=5.0, headers=None):
    """A client of a station's real server, which runs in a thread. A closed gate is opened at the end."""
    with (
        serve_app(create_app(station, token), grace_s, lambda: station.stop(grace_s)) as (_, url),
        httpx2.Client(base_url=url, verify=False, timeout=TIMEOUT_S, headers=headers) as client,
    ):
        try:
            yield client
        finally:
            open_gate(station)
    assert not station.alive


@contextmanager
def serve_app(app, grace_s=5.0, on_stop=lambda: None, address=Address(port=0)):
    """A server in a thread, and its base URL."""
    ready = threading.Event()
    server = Server(app, address, grace_s, ready.set, on_stop)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(TIMEOUT_S)
    try:
        yield server, server.url
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def open_gate(station):
    backend = station.backend.backend  # the paced backend's
    if isinstance(backend, Gate):
        backend.open()


def metric(client, name, **labels):
    """The value of a metric at `/metrics`, summed over the series that have these labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@contextmanager
def connection(client):
    """A raw socket to a client's server."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=TIMEOUT_S) as opened:
        yield opened


def read_all(opened) -> bytes:
    """What arrives until the other side closes the connection."""
    parts = []
    try:
        while part := opened.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def until(condition, seconds=TIMEOUT_S):
    """Wait for something that another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
