"""Stations to test, on the formula in place of a network, and real servers for them."""

import socket
import threading
import time
from contextlib import contextmanager

import httpx

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


def make_station(speed=None, backend=None, **limits) -> Station:
    return Station("bs", backend or Formula(), Euler(), PROFILE, Limits(**limits), speed)


@contextmanager
def served(station, token=None, grace_s=5.0, headers=None):
    """A client of a real server in a thread."""
    ready = threading.Event()
    server = Server(create_app(station, token), Address(port=0), grace_s, ready.set, lambda: station.stop(grace_s))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(20)
    with httpx.Client(base_url=server.url, verify=False, timeout=20, headers=headers) as client:
        try:
            yield client
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive() and not station.alive


@contextmanager
def connection(client):
    """A socket of one's own to the server."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as opened:
        yield opened


def read_all(opened) -> bytes:
    """What comes until the other side hangs up."""
    parts = []
    try:
        while part := opened.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def until(condition, seconds=20.0):
    """Wait for something that another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
