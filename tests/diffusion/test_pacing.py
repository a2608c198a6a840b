"""Pacing on a fake clock: each part takes the profile's time, and delays do not accumulate over a batch."""

import pytest

from edgebrush.diffusion import pacing
from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Engine, Request
from edgebrush.diffusion.pacing import CATCH_UP_S, PacedBackend
from edgebrush.diffusion.samplers import Euler
from tests.support.models import Formula
from tests.support.serving import PROFILE

SPEED = 0.5
COMPUTE = PROFILE.compute
LATE_S = 0.002  # by which every sleep is too long


class Clock:
    """A fake clock: only sleeping and the network take time."""

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
    monkeypatch.setattr(pacing, "time", clock)
    return clock


def paced(clock, seconds=0.004, speed=SPEED):
    """An engine on a paced backend, and the list of its rounds' seconds."""
    rounds = []
    backend = PacedBackend(Network(clock, seconds), COMPUTE, speed, rounds.append)
    return Engine(backend, Euler(), batch_limit=3, queue_limit=9, max_steps=50), rounds


def seconds_of(clock, engine, batch, steps):
    """Run a batch and return the seconds it takes."""
    started = clock.now
    jobs = [engine.submit(Request(Prompt("circle"), steps, n)) for n in range(batch)]
    while engine.round():
        pass
    assert all(job.state == "done" for job in jobs)
    return clock.now - started


@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_takes_as_long_as_in_the_simulator(clock, batch):
    engine, rounds = paced(clock)
    expected_s = (batch * (COMPUTE.encode_s + COMPUTE.decode_s) + 20 * float(COMPUTE.round_s(batch))) / SPEED
    assert seconds_of(clock, engine, batch, 20) == pytest.approx(expected_s + LATE_S)  # the last sleep's
    assert len(rounds) == 20 and rounds[5] == pytest.approx(float(COMPUTE.round_s(batch)) / SPEED)


def test_idle_time_does_not_shorten_later_parts(clock):
    engine, _ = paced(clock)
    first = seconds_of(clock, engine, 1, 2)
    clock.now += 3 * CATCH_UP_S
    assert seconds_of(clock, engine, 1, 2) == pytest.approx(first)


def test_a_network_slower_than_the_pace_does_not_catch_up_later(clock):
    wanted_s = float(COMPUTE.round_s(1)) / SPEED
    engine, rounds = paced(clock, seconds=wanted_s + 2 * CATCH_UP_S)
    seconds_of(clock, engine, 1, 5)
    assert all(wanted_s + 2 * CATCH_UP_S <= each <= wanted_s + 2 * CATCH_UP_S + LATE_S for each in rounds)
    engine.backend.backend.seconds = 0.0  # fast again
    assert seconds_of(clock, engine, 1, 5) >= 5 * wanted_s - CATCH_UP_S


def test_without_a_speed_nothing_sleeps(clock):
    engine, rounds = paced(clock, speed=None)
    assert seconds_of(clock, engine, 1, 5) == pytest.approx(5 * 0.004) and rounds == pytest.approx([0.004] * 5)


def test_pacing_does_not_change_images(clock):
    images = []
    for speed in (None, 2.0):
        engine, _ = paced(clock, speed=speed)
        job = engine.submit(Request(Prompt("circle"), 3, 7))
        while engine.round():
            pass
        images.append(job.image)
    assert (images[0] == images[1]).all()
