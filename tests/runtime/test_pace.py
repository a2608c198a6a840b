"""As slow as other hardware: each part takes the profile's time, and nothing adds up over a batch."""

import time

import pytest

from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Engine, Request
from edgebrush.diffusion.samplers import Euler
from edgebrush.runtime.pace import CATCH_UP_S, PacedBackend

from ..diffusion.models import Formula
from .serving import PROFILE

SPEED = 0.5


def paced(speed=SPEED):
    rounds = []
    backend = PacedBackend(Formula(), PROFILE.compute, speed, rounds.append)
    return Engine(backend, Euler(), batch_limit=3, queue_limit=9, max_steps=50), rounds


def finish(engine):
    began = time.perf_counter()
    while engine.round():
        pass
    return time.perf_counter() - began


@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_takes_what_the_simulator_says(batch):
    engine, rounds = paced()
    jobs = [engine.submit(Request(Prompt("circle"), 20, n)) for n in range(batch)]
    compute = PROFILE.compute
    expected_s = (batch * (compute.encode_s + compute.decode_s) + 20 * float(compute.round_s(batch))) / SPEED
    assert expected_s <= finish(engine) < expected_s + 0.05
    assert len(rounds) == 20 and all(job.state == "done" for job in jobs)


def test_the_pace_changes_no_image():
    images = []
    for speed in (None, 2.0):
        engine, _ = paced(speed)
        job = engine.submit(Request(Prompt("circle"), 3, 7))
        finish(engine)
        images.append(job.image)
    assert (images[0] == images[1]).all()


def test_idle_time_is_no_credit():
    engine, rounds = paced()
    for _ in range(2):
        engine.submit(Request(Prompt("circle"), 2, 1))
        finish(engine)
        time.sleep(3 * CATCH_UP_S)
    assert min(rounds) > float(PROFILE.compute.round_s(1)) / SPEED - CATCH_UP_S


def test_without_a_speed_nobody_waits():
    engine, rounds = paced(None)
    engine.submit(Request(Prompt("circle"), 5, 1))
    assert finish(engine) < 0.005 * 5 and len(rounds) == 5  # a twentieth of the pace at speed 0.1
