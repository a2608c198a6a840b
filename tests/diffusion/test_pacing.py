"""As slow as other hardware: each part takes the profile's time, and nothing adds up over a batch."""

import pytest

from edgebrush.diffusion import pacing as pace
from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Engine, Request
from edgebrush.diffusion.pacing import CATCH_UP_S, PacedBackend
from edgebrush.diffusion.samplers import Euler
from tests.support.models import Formula
from tests.support.serving import PROFILE

SPEED = 0.5
COMPUTE = PROFILE.compute
LATE_S = 0.002  # a sleep takes so much longer


class Clock:
    """Time in which only sleeping and the network take any."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds + LATE_S


class Network(Formula):
    """The formula, whose evaluation takes ``seconds`` of the clock."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds

    def predict(self, samples, times, conditions):
        self.clock.now += self.seconds
        return super().predict(samples, times, conditions)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def paced(clock, seconds=0.004, speed=SPEED):
    """An engine, and the seconds of its rounds as they come."""
    rounds = []
    backend = PacedBackend(Network(clock, seconds), COMPUTE, speed, rounds.append)
    return Engine(backend, Euler(), batch_limit=3, queue_limit=9, max_steps=50), rounds


def seconds_of(clock, engine, batch, steps):
    """How long a batch takes."""
    began = clock.now
    jobs = [engine.submit(Request(Prompt("circle"), steps, n)) for n in range(batch)]
    while engine.round():
        pass
    assert all(job.state == "done" for job in jobs)
    return clock.now - began


@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_takes_what_the_simulator_says(clock, batch):
    engine, rounds = paced(clock)
    expected_s = (batch * (COMPUTE.encode_s + COMPUTE.decode_s) + 20 * float(COMPUTE.round_s(batch))) / SPEED
    assert seconds_of(clock, engine, batch, 20) == pytest.approx(expected_s + LATE_S)  # the last sleep's
    assert len(rounds) == 20 and rounds[5] == pytest.approx(float(COMPUTE.round_s(batch)) / SPEED)


def test_idle_time_is_no_credit(clock):
    engine, _ = paced(clock)
    first = seconds_of(clock, engine, 1, 2)
    clock.now += 3 * CATCH_UP_S
    assert seconds_of(clock, engine, 1, 2) == pytest.approx(first)


def test_a_network_that_is_too_slow_sets_the_pace_itself_and_does_not_catch_up(clock):
    wanted_s = float(COMPUTE.round_s(1)) / SPEED
    engine, rounds = paced(clock, seconds=wanted_s + 2 * CATCH_UP_S)
    seconds_of(clock, engine, 1, 5)
    assert all(wanted_s + 2 * CATCH_UP_S <= each <= wanted_s + 2 * CATCH_UP_S + LATE_S for each in rounds)
    engine.backend.backend.seconds = 0.0  # quick again
    assert seconds_of(clock, engine, 1, 5) >= 5 * wanted_s - CATCH_UP_S


def test_without_a_speed_nobody_waits(clock):
    engine, rounds = paced(clock, speed=None)
    assert seconds_of(clock, engine, 1, 5) == pytest.approx(5 * 0.004) and rounds == pytest.approx([0.004] * 5)


def test_the_pace_changes_no_image(clock):
    images = []
    for speed in (None, 2.0):
        engine, _ = paced(clock, speed=speed)
        job = engine.submit(Request(Prompt("circle"), 3, 7))
        while engine.round():
            pass
        images.append(job.image)
    assert (images[0] == images[1]).all()
