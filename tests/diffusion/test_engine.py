import threading

import numpy as np
import pytest

from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Engine, QueueFull, Request
from edgebrush.diffusion.onnx import load_model, shipped_models
from edgebrush.diffusion.samplers import Euler, Multistep
from edgebrush.errors import UserError
from tests.support.models import Formula

STAR = Prompt("star")


class Watched:
    """A backend that notes what it is asked, and fails where told to."""

    def __init__(self, backend):
        self.backend, self.batches, self.fail = backend, [], ""

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def predict(self, samples, times, conditions):
        self.batches.append(list(times))
        if self.fail == "predict":
            raise RuntimeError("out of memory")
        return self.backend.predict(samples, times, conditions)

    def encode(self, prompt):
        if self.fail == "encode":
            raise RuntimeError("no such token")
        return self.backend.encode(prompt)

    def decode(self, sample):
        if self.fail == "decode":
            raise RuntimeError("no decoder")
        return self.backend.decode(sample)


@pytest.fixture
def formula():
    return Formula()


@pytest.fixture
def watched(formula):
    return Watched(formula)


def engine_of(backend, sampler=None, batch_limit=3, queue_limit=20, max_steps=50):
    return Engine(backend, sampler or Euler(), batch_limit, queue_limit, max_steps)


def finish(engine):
    while engine.round():
        pass


def alone(backend, sampler, request):
    engine = engine_of(backend, sampler)
    job = engine.submit(request)
    finish(engine)
    return job.image


def same_whoever_shares(backend, sampler):
    """Submit requests of all kinds of step counts, some on the way; each image must be that made alone."""
    names = backend.classes
    draw = np.random.default_rng(5)
    requests = [Request(Prompt(names[n % len(names)]), int(draw.integers(1, 9)), n, n % 2) for n in range(12)]
    engine = engine_of(backend, sampler, batch_limit=4)
    jobs = [engine.submit(each) for each in requests[:6]]
    engine.round()
    jobs += [engine.submit(each) for each in requests[6:]]
    finish(engine)
    for job in jobs:
        assert job.state == "done"
        assert np.array_equal(job.image, alone(backend, sampler, job.request))


@pytest.mark.parametrize("sampler", [Euler(), Multistep()], ids=["euler", "multistep"])
def test_same_seed_same_image_whoever_shares_the_batch(formula, sampler):
    same_whoever_shares(formula, sampler)


@pytest.mark.parametrize("name", shipped_models())
def test_same_seed_same_image_of_what_ships(name):
    same_whoever_shares(load_model(name), Euler())


def test_the_image_is_the_samplers(formula):
    sampler = Multistep()
    trajectory = sampler.start(formula.noise(4), 5)
    while not trajectory.finished:
        sampler.advance(trajectory, formula.predict([trajectory.sample], [trajectory.time], [2])[0])
    assert np.array_equal(alone(formula, sampler, Request(STAR, 5, 4)), formula.decode(trajectory.sample))


def test_requests_enter_by_class_and_arrival_and_leave_at_their_last_step(watched):
    engine = engine_of(watched, batch_limit=2)
    done = []

    def note(job):
        if job.steps_done == job.request.steps:
            done.append(job.number)

    wanted = [(3, 1), (1, 1), (2, 0), (1, 0), (1, 1)]  # steps, class
    jobs = [engine.submit(Request(STAR, steps, 0, level), note) for steps, level in wanted]
    assert [job.position for job in jobs] == [3, 4, 1, 2, 5]
    engine.round()  # jobs 2 and 3 run; 3 ends
    assert [job.state for job in jobs] == ["waiting", "waiting", "running", "done", "waiting"]
    assert [job.position for job in jobs] == [1, 2, 0, 0, 3]
    finish(engine)
    assert done == [3, 2, 1, 0, 4]
    # Each row is at a time of its own.
    expected = [[1, 1], [0.5, 1], [2 / 3, 1], [1 / 3, 1]]
    assert all(np.allclose(batch, row) for batch, row in zip(watched.batches, expected, strict=True))


def test_a_late_request_of_class_0_passes_the_waiting_but_not_the_running(formula):
    engine = engine_of(formula, batch_limit=1)
    running, waiting = (engine.submit(Request(STAR, 2, 0, 1)) for _ in range(2))
    engine.round()
    late = engine.submit(Request(STAR, 2, 0, 0))
    assert (running.state, late.position, waiting.position) == ("running", 1, 2)
    engine.round()
    engine.round()
    assert (running.state, late.state, waiting.state) == ("done", "running", "waiting")


def test_progress_is_told_after_each_step(formula):
    engine = engine_of(formula)
    told = []
    job = engine.submit(Request(STAR, 4, 0), lambda job: told.append((job.state, job.steps_done)))
    assert job.image is None and not job.wait(0)
    finish(engine)
    assert told == [("running", n) for n in (1, 2, 3, 4)]
    assert job.wait(0) and job.image.shape == (28, 28)
    assert job.compute_s > 0 and job.queue_s > 0


def test_the_end_is_told_once_however_it_comes(watched):
    engine = engine_of(watched, batch_limit=2)
    told = []

    def submit(steps, seed):
        return engine.submit(Request(STAR, steps, seed), on_end=lambda job: told.append((job.number, job.state)))

    jobs = [submit(1, 0), submit(3, 1), submit(3, 2), submit(3, 3)]
    jobs[2].cancel()
    engine.round()
    jobs[1].cancel()
    engine.round()
    watched.fail = "predict"
    engine.round()
    jobs[0].cancel()
    assert told == [(2, "cancelled"), (0, "done"), (1, "cancelled"), (3, "failed")]


def test_cancel_a_waiting_job(formula):
    engine = engine_of(formula, batch_limit=1)
    first, second, third = (engine.submit(Request(STAR, 2, n)) for n in range(3))
    second.cancel()
    assert second.state == "cancelled" and second.wait(0) and third.position == 2
    finish(engine)
    assert (first.state, second.state, third.state) == ("done", "cancelled", "done")
    assert second.steps_done == 0 and second.image is None


def test_cancel_a_running_job_at_the_next_step(watched):
    engine = engine_of(watched, batch_limit=2)
    first, second, third = (engine.submit(Request(STAR, 4, n)) for n in range(3))
    engine.round()
    first.cancel()
    assert first.state == "running"
    engine.round()
    assert first.state == "cancelled" and first.steps_done == 1 and first.image is None
    assert third.state == "running", "its place is taken at the same boundary"
    finish(engine)
    assert second.state == third.state == "done"
    second.cancel()
    assert second.state == "done" and second.image is not None


def test_a_job_may_cancel_itself_on_the_way(formula):
    engine = engine_of(formula)
    job = engine.submit(Request(STAR, 9, 0), lambda job: job.cancel() if job.steps_done == 3 else None)
    finish(engine)
    assert job.state == "cancelled" and job.steps_done == 3


def test_queue_full(formula):
    engine = engine_of(formula, batch_limit=1, queue_limit=2)
    jobs = [engine.submit(Request(STAR, 1, n)) for n in range(2)]
    with pytest.raises(QueueFull, match="2 requests wait already"):
        engine.submit(Request(STAR, 1, 2))
    engine.round()
    jobs.append(engine.submit(Request(STAR, 1, 2)))
    finish(engine)
    assert [job.state for job in jobs] == ["done"] * 3


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        ("predict", "formula: a denoising step failed: out of memory"),
        ("encode", "formula: the prompt could not be encoded: no such token"),
        ("decode", "formula: step 1 could not be finished: no decoder"),
    ],
)
def test_a_failure_ends_its_jobs_and_the_engine_goes_on(watched, fail, message):
    engine = engine_of(watched, batch_limit=2)
    struck = [engine.submit(Request(STAR, 1, n)) for n in range(2)]
    watched.fail = fail
    engine.round()
    assert [(job.state, job.error, job.image) for job in struck] == [("failed", message, None)] * 2
    watched.fail = ""
    later = engine.submit(Request(STAR, 2, 9))
    finish(engine)
    assert later.state == "done" and later.error == ""


def test_too_few_predictions_are_a_failure(watched):
    engine = engine_of(watched)
    watched.predict = lambda samples, times, conditions: samples[1:]
    jobs = [engine.submit(Request(STAR, 1, n)) for n in range(2)]
    assert engine.round() and not engine.running
    assert all(job.state == "failed" and "a denoising step failed" in job.error for job in jobs)


def test_a_failing_listener_ends_its_own_job_only(formula):
    def fail(job):
        raise RuntimeError("client gone")

    engine = engine_of(formula)
    one, other = engine.submit(Request(STAR, 2, 0), fail), engine.submit(Request(STAR, 2, 1))
    finish(engine)
    assert one.state == "failed" and "client gone" in one.error and other.state == "done"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(STAR, 0, 0), "steps = 0: must be between 1 and 50"),
        (Request(STAR, 51, 0), "steps = 51: must be between 1 and 50"),
        (Request(STAR, 5, -1), "seed = -1: must be between 0 and"),
        (Request(Prompt("cat"), 5, 0), "class = 'cat': formula knows"),
    ],
)
def test_bad_requests_do_not_enter(formula, request_, message):
    engine = engine_of(formula)
    with pytest.raises(UserError, match=message):
        engine.submit(request_)
    assert not engine.round()


def test_threads_submit_and_cancel_while_rounds_run(formula):
    engine = engine_of(formula, batch_limit=4, queue_limit=1000)
    stop = threading.Event()
    jobs = []

    def client(number):
        for n in range(20):
            job = engine.submit(Request(STAR, 1 + n % 5, 100 * number + n, n % 2))
            jobs.append(job)
            if n % 4 == 3:
                job.cancel()
            assert job.position >= 0

    server = threading.Thread(target=engine.run, args=(stop,))
    clients = [threading.Thread(target=client, args=(n,)) for n in range(4)]
    for thread in (server, *clients):
        thread.start()
    for thread in clients:
        thread.join()
    assert all(job.wait(30) for job in jobs)
    stop.set()
    server.join(10)
    assert not server.is_alive() and len(jobs) == 80
    assert {job.state for job in jobs} <= {"done", "cancelled"}
    assert all(job.state == "done" for job in jobs if not job.cancel_asked)
    for job in jobs[::20]:
        if job.state == "done":
            assert np.array_equal(job.image, alone(formula, Euler(), job.request))
    assert not engine.waiting and not engine.running
