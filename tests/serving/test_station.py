"""A station over a real socket: images, streams, jobs, refusals, and what it tells of its load."""

import base64
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from edgebrush.api import schema as messages
from edgebrush.api.schema import ImageReply, JobReply, Load
from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Engine, Request
from edgebrush.diffusion.samplers import Euler
from tests.diffusion.test_engine import Watched
from tests.support.models import Formula
from tests.support.serving import AS_JOB, CIRCLE, IMAGES, PROFILE, connection, make_station, served, until

pytestmark = pytest.mark.process

ENERGY = PROFILE.energy


@pytest.fixture(scope="module")
def quick():
    """A client of a station that is as fast as it can."""
    with served(make_station(steps=50)) as client:
        yield client


def slow(**limits):
    """A station whose round with one task takes 80 ms."""
    return make_station(speed=0.1, **limits)


def pixels(b64_json):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64_json))))


def made_here(steps, seed):
    engine = Engine(Formula(), Euler(), 1, 1, 50)
    job = engine.submit(Request(Prompt("circle"), steps, seed))
    while engine.round():
        pass
    return job.image


def metric(client, name, **labels):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_an_image_is_the_engines_and_says_what_it_cost(quick):
    answer = quick.post(IMAGES, json={**CIRCLE, "num_inference_steps": 5})
    assert answer.status_code == 200
    reply = ImageReply.model_validate_json(answer.content)
    assert (pixels(reply.data[0].b64_json) == made_here(5, 1)).all()
    assert (reply.steps_used, reply.served_by) == (5, "bs")
    assert 0 <= reply.queue_s < 1 and 0 < reply.compute_s < 1 and abs(reply.created - time.time()) < 10
    alone_j = 5 * (ENERGY.round_intercept_j + ENERGY.round_slope_j) + ENERGY.fixed_j
    assert reply.energy_j == pytest.approx(alone_j)


def test_several_images_count_their_seeds_on(quick):
    reply = ImageReply.model_validate_json(quick.post(IMAGES, json={**CIRCLE, "n": 3}).content)
    images = [pixels(each.b64_json) for each in reply.data]
    assert all((image == made_here(2, 1 + n)).all() for n, image in enumerate(images))
    shared_j = 2 * (ENERGY.round_intercept_j + 3 * ENERGY.round_slope_j) + 3 * ENERGY.fixed_j
    assert reply.energy_j == pytest.approx(shared_j)


def test_without_a_seed_each_image_is_another(quick):
    body = {"prompt": "circle", "num_inference_steps": 2}
    one, other = (quick.post(IMAGES, json=body).json()["data"][0]["b64_json"] for _ in range(2))
    assert one != other


def test_null_means_left_out(quick):
    fields = {name: None for name in messages.ImageRequest.model_fields if name not in CIRCLE}
    nulls, left_out = (quick.post(IMAGES, json=body).json()["data"] for body in ({**CIRCLE, **fields}, CIRCLE))
    assert nulls == left_out


@pytest.mark.parametrize(
    ("change", "status", "param", "message"),
    [
        ({"promt": "circle"}, 422, "promt", "promt: no such field"),
        ({"prompt": "cat"}, 422, "prompt", "class = 'cat': formula knows circle, square, star"),
        ({"prompt": 5}, 422, "prompt", "prompt = 5: must be text"),
        ({"prompt": "x" * 4001}, 422, "prompt", "at most 4000"),
        ({"num_inference_steps": 51}, 422, "num_inference_steps", "num_inference_steps = 51: bs allows at most 50"),
        ({"num_inference_steps": 0}, 422, "num_inference_steps", "must be at least 1"),
        ({"num_inference_steps": "5"}, 422, "num_inference_steps", "must be a whole number"),
        ({"n": 9}, 422, "n", "n = 9: must be at most 8"),
        ({"n": 2, "stream": True}, 422, "n", "a stream carries one image"),
        ({"size": "1024x1024"}, 422, "size", "size = '1024x1024': formula generates 28x28"),
        ({"response_format": "url"}, 422, "response_format", "must be 'b64_json'"),
        ({"service_class": 4}, 422, "service_class", "must be at most 3"),
        ({"deadline_s": 0}, 422, "deadline_s", "must be greater than 0"),
        ({"seed": -1}, 422, "seed", "must be at least 0"),
        ({"model": "dall-e-3"}, 404, "model", "model = 'dall-e-3': bs serves formula"),
    ],
)
def test_what_cannot_be_served_is_told_in_openais_shape(quick, change, status, param, message):
    answer = quick.post(IMAGES, json={**CIRCLE, **change})
    error = answer.json()["error"]
    assert answer.status_code == status and set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param and message in error["message"] and error["type"] == "invalid_request_error"


def test_a_stream_shows_every_step_and_then_the_image(quick):
    with quick.stream("POST", IMAGES, json={**CIRCLE, "num_inference_steps": 4, "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = events_of(answer)
    assert [name for name, _ in told] == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    assert [each.step for _, each in told[:-1]] == [1, 2, 3] and {each.steps for _, each in told[:-1]} == {4}
    assert [each.partial_image_index for _, each in told[:-1]] == [0, 1, 2]
    assert (pixels(told[-1][1].b64_json) == made_here(4, 1)).all()
    assert told[-1][1].steps_used == 4 and told[-1][1].energy_j > 0


@pytest.mark.parametrize(("wanted", "steps"), [(0, []), (1, [6]), (2, [4, 8]), (3, [3, 6, 9])])
def test_a_stream_shows_as_many_partial_images_as_were_asked_for(quick, wanted, steps):
    body = {**CIRCLE, "num_inference_steps": 12, "stream": True, "partial_images": wanted}
    with quick.stream("POST", IMAGES, json=body) as answer:
        told = events_of(answer)
    assert [each.step for _, each in told[:-1]] == steps


def events_of(answer):
    """The names and messages of a stream."""
    kinds = {
        "image_generation.partial_image": messages.PartialImage,
        "image_generation.completed": messages.CompletedImage,
    }
    told = []
    for block in answer.read().decode().strip().split("\n\n"):
        name, data = (line.split(": ", 1)[1] for line in block.split("\n"))
        told.append((name, kinds[name].model_validate_json(data)))
    return told


def test_a_job_is_taken_asked_for_and_kept():
    with served(slow(batch=1), headers=AS_JOB) as client:
        answers = [client.post(IMAGES, json={**CIRCLE, "seed": n}) for n in range(3)]
        assert [answer.status_code for answer in answers] == [202] * 3
        last = JobReply.model_validate_json(client.get(answers[2].headers["location"]).content)
        assert last.status == "queued" and last.queue_position in (2, 3) and last.result is None
        done = [wait_for(client, answer) for answer in answers]
        assert [each.status for each in done] == ["completed"] * 3 and done[2].queue_position == 0
        assert (pixels(done[2].result.data[0].b64_json) == made_here(2, 2)).all()
        assert client.get(IMAGES + "/img-0").status_code == 404


def wait_for(client, answer):
    jobs = []

    def ended():
        jobs.append(JobReply.model_validate_json(client.get(answer.headers["location"]).content))
        return jobs[-1].status not in ("queued", "in_progress")

    until(ended)
    return jobs[-1]


def test_delete_cancels_what_waits_at_once_and_what_runs_before_its_next_step():
    station = slow(batch=1)
    with served(station, headers=AS_JOB) as client:
        running, waiting, last = (client.post(IMAGES, json={**CIRCLE, "num_inference_steps": 50}) for _ in range(3))
        until(lambda: station.engine.running)
        gone = client.delete(waiting.headers["location"])
        assert gone.json()["status"] == "cancelled" and gone.json()["error"]["code"] == "cancelled"
        assert client.get(last.headers["location"]).json()["queue_position"] == 1
        client.delete(running.headers["location"])
        assert wait_for(client, running).status == "cancelled"
        until(lambda: client.get(last.headers["location"]).json()["status"] == "in_progress")
        assert client.get(running.headers["location"]).json()["steps_done"] < 50
        client.delete(last.headers["location"])


def test_jobs_that_have_ended_are_forgotten_in_time(quick, monkeypatch):
    from edgebrush.serving import station

    monkeypatch.setattr(station, "KEPT_JOBS", 2)
    with served(make_station(), headers=AS_JOB) as client:
        answers = []
        for _ in range(4):
            answers.append(client.post(IMAGES, json=CIRCLE))
            wait_for(client, answers[-1])
        codes = [client.get(answer.headers["location"]).status_code for answer in answers]
        assert codes == [404, 200, 200, 200]  # the last came after the two


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", ["running", "waiting"])
def test_a_client_who_goes_frees_the_place(stream, place):
    station = slow(batch=1)
    with served(station) as client:
        if place == "waiting":
            long = {**CIRCLE, "num_inference_steps": 50}
            blocker = client.post(IMAGES, json=long, headers=AS_JOB)
            until(lambda: station.engine.running)
        body = json.dumps({**CIRCLE, "num_inference_steps": 50, "stream": stream}).encode()
        head = f"POST {IMAGES} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        with connection(client) as opened:
            opened.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: getattr(station.engine, place))
            assert station.connections == (2 if place == "waiting" else 1)
        until(lambda: not getattr(station.engine, place))
        if place == "waiting":
            client.delete(blocker.headers["location"])
        until(lambda: station.connections == 0 and not station.active)


def test_a_full_queue_refuses_and_tells_when_to_come_again():
    station = slow(batch=1, queue=1)
    long = {**CIRCLE, "num_inference_steps": 40}
    with served(station) as client:
        jobs = [client.post(IMAGES, json=long, headers=AS_JOB)]
        until(lambda: station.engine.running)
        jobs.append(client.post(IMAGES, json=long, headers=AS_JOB))
        station.backend.on_round = lambda _: None
        station.round_s = 0.5
        before, refused, after = client.get("/v1/load"), client.post(IMAGES, json=CIRCLE), client.get("/v1/load")
        error = refused.json()["error"]
        assert refused.status_code == 429 and error["code"] == "queue_full" and error["type"] == "rate_limit_error"
        least, most = (each.json()["steps_left"] + each.json()["waiting_steps"][0] for each in (after, before))
        assert 20 < least * 0.5 <= int(refused.headers["retry-after"]) < most * 0.5 + 1 <= 41
        assert metric(client, "edgebrush_requests_total", status="429") == 1
        for job in jobs:
            client.delete(job.headers["location"])


def test_a_request_is_admitted_whole_or_not_at_all():
    station = slow(batch=1, queue=2)
    with served(station) as client:
        assert client.post(IMAGES, json={**CIRCLE, "n": 4}).status_code == 429
        until(lambda: not station.engine.waiting and not station.engine.running)


def test_too_many_requests_at_once_are_refused():
    station = slow(batch=1, connections=2)
    with served(station) as client:
        with connection(client) as dawdler:  # its body is on the way
            dawdler.sendall(f"POST {IMAGES} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n".encode())
            until(lambda: station.connections == 1)
            job = client.post(IMAGES, json={**CIRCLE, "num_inference_steps": 50}, headers=AS_JOB)
            refused = client.post(IMAGES, json=CIRCLE)
            assert refused.status_code == 429 and refused.json()["error"]["code"] == "too_many_requests"
            assert client.get("/v1/load").json()["connections"] == 2 and client.get("/healthz").status_code == 200
        client.delete(job.headers["location"])
        until(lambda: station.connections == 0)
        assert client.post(IMAGES, json=CIRCLE).status_code == 200


def test_whoever_waits_past_the_deadline_is_dropped_and_what_runs_is_finished():
    station = slow(batch=1)
    with served(station) as client, ThreadPoolExecutor() as pool:
        running = pool.submit(client.post, IMAGES, json={**CIRCLE, "num_inference_steps": 16, "deadline_s": 0.8})
        until(lambda: station.engine.running)
        waiting = client.post(IMAGES, json={**CIRCLE, "deadline_s": 0.1})
        assert waiting.status_code == 504 and waiting.json()["error"]["code"] == "deadline_exceeded"
        assert station.engine.running and running.result().status_code == 200


def test_class_0_is_served_first():
    station = slow(batch=1)
    order = []

    def ask(level):
        order.append((level, client.post(IMAGES, json={**CIRCLE, "service_class": level}).status_code))

    with served(station) as client:
        threads = []
        for number, level in enumerate([3, 2, 0, 1]):
            threads.append(threading.Thread(target=ask, args=(level,)))
            threads[-1].start()
            until(lambda number=number: len(station.engine.waiting) + len(station.engine.running) == number + 1)
            if number == 0:
                until(lambda: station.engine.running)
        for thread in threads:
            thread.join()
    assert order == [(3, 200), (0, 200), (1, 200), (2, 200)]


def test_the_broadcast_is_what_the_simulator_publishes():
    station = slow(batch=2, queue=9, connections=11)
    with served(station, headers=AS_JOB) as client:
        empty = Load.model_validate_json(client.get("/v1/load").content)
        assert (empty.running, empty.steps_left, empty.waiting, empty.round_s) == (0, 0, [0] * 4, 0)
        wanted = [(30, 0), (40, 0), (5, 1), (6, 1), (7, 0)]
        jobs = [
            client.post(IMAGES, json={**CIRCLE, "num_inference_steps": steps, "service_class": level})
            for steps, level in wanted
        ]
        until(lambda: len(station.engine.running) == 2 and station.round_s > 0)
        load = Load.model_validate_json(client.get("/v1/load").content)
        assert (load.name, load.running, load.connections) == ("bs", 2, 5)
        assert (load.batch_limit, load.queue_limit, load.connection_limit) == (2, 9, 11)
        assert (load.waiting, load.waiting_steps) == ([1, 2, 0, 0], [7, 11, 0, 0])
        assert 50 <= load.steps_left <= 70  # the sum over the two that run
        assert 0.05 < load.round_s < 5 and abs(load.time - time.time()) < 5
        for job in jobs:
            client.delete(job.headers["location"])


def test_an_answer_does_not_wait_for_its_head_to_be_acknowledged(quick):
    """40 ms where Nagle's algorithm is not switched off; the quickest of ten tells, however busy the machine is."""
    assert min(quick.get("/healthz").elapsed.total_seconds() for _ in range(10)) < 0.035


def test_metrics_are_prometheus_and_true():
    with served(make_station()) as client:
        replies = [client.post(IMAGES, json=CIRCLE).json() for _ in range(3)]
        client.post(IMAGES, json={**CIRCLE, "prompt": "cat"})
        assert metric(client, "edgebrush_requests_total", status="200") == 3
        assert metric(client, "edgebrush_requests_total", status="422") == 1
        assert metric(client, "edgebrush_steps_total") == 6
        assert metric(client, "edgebrush_energy_joules_total") == pytest.approx(sum(r["energy_j"] for r in replies))
        assert metric(client, "edgebrush_queue_wait_seconds_count") == 3
        assert metric(client, "edgebrush_round_seconds_count") == 6
        assert metric(client, "edgebrush_running") == metric(client, "edgebrush_waiting") == 0


def test_a_token_guards_all_but_health_and_metrics():
    with served(make_station(), token="s3cret") as client:
        for path in ("/v1/load", "/v1/models", "/openapi.json", IMAGES + "/x", "/nowhere"):
            for header in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Basic s3cret"}):
                answer = client.get(path, headers=header)
                assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key", path
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.post(IMAGES, content=b"{").status_code == 401, "before the body is looked at"
        assert metric(client, "edgebrush_requests_total", status="401") == 1
        assert all(client.get(path).status_code == 200 for path in ("/healthz", "/readyz", "/metrics"))
        client.headers["authorization"] = "bearer s3cret"
        assert client.post(IMAGES, json=CIRCLE).status_code == 200
        assert client.get("/v1/models").json()["data"][0]["id"] == "formula"


def test_a_failure_of_the_model_is_told_without_a_traceback():
    backend = Watched(Formula())
    with served(make_station(backend=backend)) as client:
        backend.fail = "predict"
        answer = client.post(IMAGES, json=CIRCLE)
        assert answer.status_code == 503 and "out of memory" in answer.json()["error"]["message"]
        assert "Traceback" not in answer.text and "retry-after" in answer.headers
        backend.fail = ""
        assert client.post(IMAGES, json=CIRCLE).status_code == 200


def test_a_stop_finishes_what_runs_and_hands_back_what_waits():
    station = slow(batch=1)
    with ThreadPoolExecutor() as pool:
        with served(station) as client:
            running = pool.submit(client.post, IMAGES, json={**CIRCLE, "num_inference_steps": 8})
            until(lambda: station.engine.running)
            waiting = pool.submit(client.post, IMAGES, json=CIRCLE)
            until(lambda: station.engine.waiting)
        assert running.result().status_code == 200
        assert waiting.result().status_code == 503 and waiting.result().json()["error"]["code"] == "stopping"
        assert int(waiting.result().headers["retry-after"]) > 0


def test_a_stop_lasts_no_longer_than_the_grace():
    station = slow(batch=1)
    with ThreadPoolExecutor() as pool:
        with served(station, grace_s=0.2) as client:
            running = pool.submit(client.post, IMAGES, json={**CIRCLE, "num_inference_steps": 100})
            until(lambda: station.engine.running)
            began = time.monotonic()
        assert time.monotonic() - began < 6
        assert running.result().status_code == 503


def test_a_dead_engine_is_not_healthy(quick):
    station = make_station()
    with served(station) as client:
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        station.stop_engine.set()
        until(lambda: not station.alive)
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 503
