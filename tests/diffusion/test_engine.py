"""The engine: images do not depend on the batch, queue order, cancelling, failures, callbacks, threads."""

import threading

import numpy as np
import pytest

from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Engine, QueueFull, Request
from edgebrush.diffusion.onnx import load_model, shipped_models
from edgebrush.diffusion.samplers import Euler, Multistep
from edgebrush.errors import UserError
from tests.support.models import Formula, RecordingBackend

STAR = Prompt("star")


@pytest.fixture
def formula():
    return Formula()


@pytest.fixture
def recording(formula):
    return RecordingBackend(formula)


def new_engine(backend, sampler=None, batch_limit=3, queue_limit=20, max_steps=50):
    return Engine(backend, sampler or Euler(), batch_limit, queue_limit, max_steps)


def run_all(engine):
    while engine.round():
        pass


def image_alone(backend, sampler, request):
    """The image of a request that has the engine to itself."""
    engine = new_engine(backend, sampler)
    job = engine.submit(request)
    run_all(engine)
    return job.image


def check_independent_of_batch(backend, sampler):
    """Submit requests with various step counts, some of them late; each image must equal the one made alone."""
    names = backend.classes
    draw = np.random.default_rng(5)
    requests = [Request(Prompt(names[n % len(names)]), int(draw.integers(1, 9)), n, n % 2) for n in range(12)]
    engine = new_engine(backend, sampler, batch_limit=4)
    jobs = [engine.submit(each) for each in requests[:6]]
    engine.round()
    jobs += [engine.submit(each) for each in requests[6:]]
    run_all(engine)
    for job in jobs:
        assert job.state == "done"
        assert np.array_equal(job.image, image_alone(backend, sampler, job.request))


@pytest.mark.parametrize("sampler", [Euler(), Multistep()], ids=["euler", "multistep"])
def test_an_image_does_not_depend_on_the_batch(formula, sampler):
    check_independent_of_batch(formula, sampler)


@pytest.mark.parametrize("name", shipped_models())
def test_an_image_of_a_shipped_model_does_not_depend_on_the_batch(name):
    check_independent_of_batch(load_model(name), Euler())


def test_the_image_equals_the_samplers_result(formula):
    sampler = Multistep()
    trajectory = sampler.start(formula.noise(4), 5)
    while not trajectory.finished:
        sampler.advance(trajectory, formula.predict([trajectory.sample], [trajectory.time], [2])[0])
    assert np.array_equal(image_alone(formula, sampler, Request(STAR, 5, 4)), formula.decode([trajectory.sample])[0])


def test_jobs_enter_by_class_and_arrival_and_leave_after_their_last_step(recording):
    engine = new_engine(recording, batch_limit=2)
    done = []

    def on_step(job):
        if job.steps_done == job.request.steps:
            done.append(job.number)

    wanted = [(3, 1), (1, 1), (2, 0), (1, 0), (1, 1)]  # steps, class
    jobs = [engine.submit(Request(STAR, steps, 0, level), on_step) for steps, level in wanted]
    assert [job.position for job in jobs] == [3, 4, 1, 2, 5]
    engine.round()  # jobs 2 and 3 run; 3 ends
    assert [job.state for job in jobs] == ["waiting", "waiting", "running", "done", "waiting"]
    assert [job.position for job in jobs] == [1, 2, 0, 0, 3]
    run_all(engine)
    assert done == [3, 2, 1, 0, 4]
    # Each row has its own time.
    expected = [[1, 1], [0.5, 1], [2 / 3, 1], [1 / 3, 1]]
    assert all(np.allclose(batch, row) for batch, row in zip(recording.batches, expected, strict=True))


def test_a_late_request_of_class_0_overtakes_waiting_but_not_running_jobs(formula):
    engine = new_engine(formula, batch_limit=1)
    running, waiting = (engine.submit(Request(STAR, 2, 0, 1)) for _ in range(2))
    engine.round()
    late = engine.submit(Request(STAR, 2, 0, 0))
    assert (running.state, late.position, waiting.position) == ("running", 1, 2)
    engine.round()
    engine.round()
    assert (running.state, late.state, waiting.state) == ("done", "running", "waiting")


def test_on_step_is_called_after_each_step(formula):
    engine = new_engine(formula)
    calls = []
    job = engine.submit(Request(STAR, 4, 0), lambda job: calls.append((job.state, job.steps_done)))
    assert job.image is None and not job.wait(0)
    run_all(engine)
    assert calls == [("running", n) for n in (1, 2, 3, 4)]
    assert job.wait(0) and job.image.shape == (28, 28)
    assert job.compute_s > 0 and job.queue_s > 0


def test_on_end_is_called_once_for_every_kind_of_end(recording):
    engine = new_engine(recording, batch_limit=2)
    calls = []

    def submit(steps, seed):
        return engine.submit(Request(STAR, steps, seed), on_end=lambda job: calls.append((job.number, job.state)))

    jobs = [submit(1, 0), submit(3, 1), submit(3, 2), submit(3, 3)]
    jobs[2].cancel()
    engine.round()
    jobs[1].cancel()
    engine.round()
    recording.fail = "predict"
    engine.round()
    jobs[0].cancel()
    assert calls == [(2, "cancelled"), (0, "done"), (1, "cancelled"), (3, "failed")]


def test_cancel_a_waiting_job(formula):
    engine = new_engine(formula, batch_limit=1)
    first, second, third = (engine.submit(Request(STAR, 2, n)) for n in range(3))
    second.cancel()
    assert second.state == "cancelled" and second.wait(0) and third.position == 2
    run_all(engine)
    assert (first.state, second.state, third.state) == ("done", "cancelled", "done")
    assert second.steps_done == 0 and second.image is None


def test_cancel_a_running_job_at_the_next_step(recording):
    engine = new_engine(recording, batch_limit=2)
    first, second, third = (engine.submit(Request(STAR, 4, n)) for n in range(3))
    engine.round()
    first.cancel()
    assert first.state == "running"
    engine.round()
    assert first.state == "cancelled" and first.steps_done == 1 and first.image is None
    assert third.state == "running", "its place is taken at the same boundary"
    run_all(engine)
    assert second.state == third.state == "done"
    second.cancel()
    assert second.state == "done" and second.image is not None


def test_a_job_may_be_cancelled_in_its_own_callback(formula):
    engine = new_engine(formula)
    job = engine.submit(Request(STAR, 9, 0), lambda job: job.cancel() if job.steps_done == 3 else None)
    run_all(engine)
    assert job.state == "cancelled" and job.steps_done == 3


def test_queue_full(formula):
    engine = new_engine(formula, batch_limit=1, queue_limit=2)
    jobs = [engine.submit(Request(STAR, 1, n)) for n in range(2)]
    with pytest.raises(QueueFull, match="2 requests are waiting"):
        engine.submit(Request(STAR, 1, 2))
    engine.round()
    jobs.append(engine.submit(Request(STAR, 1, 2)))
    run_all(engine)
    assert [job.state for job in jobs] == ["done"] * 3


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        ("predict", "formula: a denoising step failed: out of memory"),
        ("encode", "formula: the prompt could not be encoded: no such token"),
        ("decode", "formula: the image could not be decoded: no decoder"),
    ],
)
def test_a_failure_ends_its_jobs_and_the_engine_continues(recording, fail, message):
    engine = new_engine(recording, batch_limit=2)
    failed = [engine.submit(Request(STAR, 1, n)) for n in range(2)]
    recording.fail = fail
    engine.round()
    assert [(job.state, job.error, job.image) for job in failed] == [("failed", message, None)] * 2
    recording.fail = ""
    later = engine.submit(Request(STAR, 2, 9))
    run_all(engine)
    assert later.state == "done" and later.error == ""


def test_images_that_end_in_the_same_round_are_decoded_together(recording):
    engine = new_engine(recording, batch_limit=4)
    jobs = [engine.submit(Request(STAR, steps, n)) for n, steps in enumerate((2, 1, 2, 3))]
    run_all(engine)
    assert recording.decoded == [1, 2, 1]
    assert all(np.array_equal(job.image, image_alone(recording, Euler(), job.request)) for job in jobs)


def test_a_round_ends_when_the_device_has_done_its_work(formula):
    engine, waits = new_engine(formula), []
    formula.synchronize = lambda: waits.append(engine.running[0].steps_done)
    engine.submit(Request(STAR, 3, 0))
    engine.round()
    engine.round()
    assert waits == [1, 2]


def test_too_few_predictions_are_a_failure(recording):
    engine = new_engine(recording)
    recording.predict = lambda samples, times, conditions: samples[1:]
    jobs = [engine.submit(Request(STAR, 1, n)) for n in range(2)]
    assert engine.round() and not engine.running
    assert all(job.state == "failed" and "a denoising step failed" in job.error for job in jobs)


def test_a_failing_callback_ends_only_its_own_job(formula):
    def fail(job):
        raise RuntimeError("client gone")

    engine = new_engine(formula)
    one, other = engine.submit(Request(STAR, 2, 0), fail), engine.submit(Request(STAR, 2, 1))
    run_all(engine)
    assert one.state == "failed" and "client gone" in one.error and other.state == "done"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(STAR, 0, 0), "steps = 0: must be between 1 and 50"),
        (Request(STAR, 51, 0), "steps = 51: must be between 1 and 50"),
        (Request(STAR, 5, -1), "seed = -1: must be between 0 and"),
        (Request(Prompt("cat"), 5, 0), "class = 'cat': formula knows"),
        (Request(STAR, 5, 0, size=(64, 32)), "size = .*: formula generates 28x28"),
    ],
)
def test_invalid_requests_are_rejected(formula, request_, message):
    engine = new_engine(formula)
    with pytest.raises(UserError, match=message):
        engine.submit(request_)
    assert not engine.round()


def test_threads_submit_and_cancel_while_rounds_run(formula):
    engine = new_engine(formula, batch_limit=4, queue_limit=1000)
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
    assert all(job.state == "done" for job in jobs if not job.cancel_requested)
    for job in jobs[::20]:
        if job.state == "done":
            assert np.array_equal(job.image, image_alone(formula, Euler(), job.request))
    assert not engine.waiting and not engine.running
