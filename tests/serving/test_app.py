"""The HTTP interface of a station in memory: images, streams, jobs, limits, errors, load and metrics."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from edgebrush.api import schema
from edgebrush.api.schema import ImageReply, JobReply, Load
from edgebrush.diffusion import engine
from edgebrush.diffusion.backend import Prompt
from edgebrush.diffusion.engine import Engine, Request
from edgebrush.diffusion.samplers import Euler
from edgebrush.serving import station as stations
from tests.support.models import Formula, RecordingBackend
from tests.support.serving import AS_JOB, CIRCLE, IMAGES, PROFILE, Gate, in_memory, make_station, metric, until

ENERGY = PROFILE.energy
EVENTS = {
    "image_generation.partial_image": schema.PartialImage,
    "image_generation.completed": schema.CompletedImage,
}


@pytest.fixture(scope="module")
def client():
    """A client of a station without pacing."""
    with in_memory(make_station(steps=50)) as client:
        yield client


def gated(**limits):
    """A station that runs one image at a time, and its gate, which is closed."""
    gate = Gate()
    return make_station(backend=gate, **{"batch": 1, **limits}), gate


def pixels(b64_json):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64_json))))


def engine_image(steps, seed):
    """The image as the engine makes it alone."""
    alone = Engine(Formula(), Euler(), 1, 1, 50)
    job = alone.submit(Request(Prompt("circle"), steps, seed))
    while alone.round():
        pass
    return job.image


def test_an_image_is_the_engines_with_its_cost(client):
    response = client.post(IMAGES, json={**CIRCLE, "num_inference_steps": 5})
    assert response.status_code == 200
    reply = ImageReply.model_validate_json(response.content)
    assert (pixels(reply.data[0].b64_json) == engine_image(5, 1)).all()
    assert (reply.steps_used, reply.served_by) == (5, "bs")
    assert reply.queue_s >= 0 and reply.compute_s > 0 and reply.created > 1.7e9
    alone_j = 5 * (ENERGY.round_intercept_j + ENERGY.round_slope_j) + ENERGY.fixed_j
    assert reply.energy_j == pytest.approx(alone_j)


def test_several_images_have_consecutive_seeds(client):
    reply = ImageReply.model_validate_json(client.post(IMAGES, json={**CIRCLE, "n": 3}).content)
    images = [pixels(each.b64_json) for each in reply.data]
    assert all((image == engine_image(2, 1 + n)).all() for n, image in enumerate(images))
    shared_j = 2 * (ENERGY.round_intercept_j + 3 * ENERGY.round_slope_j) + 3 * ENERGY.fixed_j
    assert reply.energy_j == pytest.approx(shared_j)


def test_without_a_seed_images_differ(client):
    body = {"prompt": "circle", "num_inference_steps": 2}
    one, other = (client.post(IMAGES, json=body).json()["data"][0]["b64_json"] for _ in range(2))
    assert one != other


def test_the_api_and_the_engine_have_the_same_largest_seed():
    assert schema.MAX_SEED == engine.MAX_SEED


def test_seeds_continue_at_0_after_the_largest(client):
    body = {**CIRCLE, "seed": schema.MAX_SEED, "n": 2}
    images = [pixels(each["b64_json"]) for each in client.post(IMAGES, json=body).json()["data"]]
    assert (images[0] == engine_image(2, schema.MAX_SEED)).all() and (images[1] == engine_image(2, 0)).all()


def test_null_means_left_out(client):
    fields = {name: None for name in schema.ImageRequest.model_fields if name not in CIRCLE}
    nulls, left_out = (client.post(IMAGES, json=body).json()["data"] for body in ({**CIRCLE, **fields}, CIRCLE))
    assert nulls == left_out


@pytest.mark.parametrize(
    ("change", "status", "param", "message"),
    [
        ({"promt": "circle"}, 400, "promt", "promt: no such field"),
        ({"prompt": "cat"}, 422, "prompt", "class = 'cat': formula knows circle, square, star"),
        ({"prompt": 5}, 400, "prompt", "prompt = 5: must be text"),
        ({"prompt": "x" * 32_001}, 400, "prompt", "at most 32000"),
        ({"num_inference_steps": 51}, 422, "num_inference_steps", "num_inference_steps = 51: bs allows at most 50"),
        ({"num_inference_steps": 0}, 400, "num_inference_steps", "must be at least 1"),
        ({"num_inference_steps": "5"}, 400, "num_inference_steps", "must be a whole number"),
        ({"n": 11}, 400, "n", "n = 11: must be at most 10"),
        ({"n": 2, "stream": True}, 400, "n", "a stream carries one image"),
        ({"size": "100x100"}, 400, "size", "size = '100x100': must be 28x28, auto, or a standard size"),
        ({"response_format": "file"}, 400, "response_format", "must be 'url' or 'b64_json'"),
        ({"response_format": "url", "stream": True}, 400, "response_format", "a stream carries its image inline"),
        ({"background": "transparent"}, 400, "background", "must be 'opaque' or 'auto'"),
        ({"output_format": "gif"}, 400, "output_format", "must be 'png', 'jpeg' or 'webp'"),
        ({"frame_count": 9}, 400, "frame_count", "frame_count = 9: not supported by this server; leave it out"),
        ({"service_class": 4}, 400, "service_class", "must be at most 3"),
        ({"deadline_s": 0}, 400, "deadline_s", "must be greater than 0"),
        ({"seed": -1}, 400, "seed", "must be at least 0"),
        ({"model": "sdxl"}, 404, "model", "model = 'sdxl': this server has formula"),
    ],
)
def test_errors_have_openais_format(client, change, status, param, message):
    response = client.post(IMAGES, json={**CIRCLE, **change})
    error = response.json()["error"]
    assert response.status_code == status and set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param and message in error["message"] and error["type"] == "invalid_request_error"


# -- formats, files, models


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_images_have_the_requested_format(client, format):
    reply = client.post(IMAGES, json={**CIRCLE, "n": 2, "output_format": format}).json()
    pictures = [Image.open(io.BytesIO(base64.b64decode(each["b64_json"]))) for each in reply["data"]]
    assert [each.format for each in pictures] == [format.upper()] * 2
    assert (reply["output_format"], reply["size"], reply["background"]) == (format, "28x28", "opaque")


def test_ignored_fields_are_listed(client):
    body = {**CIRCLE, "quality": "high", "style": "vivid", "model": "dall-e-3", "size": "1024x1024"}
    assert client.post(IMAGES, json=body).json()["ignored"] == ["model", "quality", "size", "style"]
    assert client.post(IMAGES, json=CIRCLE).json()["ignored"] == []
    [(_, completed)] = events_of(client.post(IMAGES, json={**CIRCLE, "stream": True, "user": "me"}))
    assert completed.ignored == ["user"] and completed.usage.total_tokens == 0


def test_images_can_be_downloaded_without_the_token():
    with in_memory(make_station(), token="s3cret") as client:
        body, token = {**CIRCLE, "response_format": "url", "output_format": "jpeg"}, {"authorization": "Bearer s3cret"}
        [image] = client.post(IMAGES, json=body, headers=token).json()["data"]
        response = client.get(image["url"])
        assert set(image) == {"url"} and Image.open(io.BytesIO(response.content)).format == "JPEG"
        assert response.headers["content-type"] == "image/jpeg"
        assert client.get("/files/x.jpeg").status_code == 404


def test_a_jobs_files_are_kept_once(client):
    response = client.post(IMAGES, json={**CIRCLE, "response_format": "url"}, headers=AS_JOB)
    first = wait_for(client, response).result
    assert status_of(client, response).result == first and client.get(first.data[0].url).status_code == 200


def test_the_model_is_described(client):
    assert client.get("/v1/models/formula").json()["owned_by"] == "bs"
    response = client.get("/v1/models/dall-e/3")
    assert response.status_code == 404 and response.json()["error"]["code"] == "model_not_found"


def test_images_that_could_be_made_are_delivered_beside_the_errors_of_the_others(client):
    class SecondFails(Formula):
        decoded = 0

        def decode(self, samples):
            self.decoded += 1
            if self.decoded in (2, 4):  # 1 gives the size, 2 is the batch, then one by one
                raise RuntimeError("no decoder")
            return super().decode(samples)

    with in_memory(make_station(backend=SecondFails())) as client:
        reply = client.post(IMAGES, json={**CIRCLE, "n": 3}).json()
    assert len(reply["data"]) == 2 and "no decoder" in reply["errors"][0]["message"]


# -- streams


def test_a_stream_has_partial_images_and_then_the_image(client):
    response = client.post(IMAGES, json={**CIRCLE, "num_inference_steps": 4, "stream": True, "partial_images": 3})
    assert response.headers["content-type"].startswith("text/event-stream")
    *partial, last = events_of(response)
    assert [name for name, _ in partial] == ["image_generation.partial_image"] * 3
    assert [each.step for _, each in partial] == [1, 2, 3] and {each.steps for _, each in partial} == {4}
    assert [each.partial_image_index for _, each in partial] == [0, 1, 2]
    assert last[0] == "image_generation.completed" and (pixels(last[1].b64_json) == engine_image(4, 1)).all()
    assert last[1].steps_used == 4 and last[1].energy_j > 0


@pytest.mark.parametrize(("wanted", "steps"), [(None, []), (0, []), (1, [6]), (2, [4, 8]), (3, [3, 6, 9])])
def test_a_stream_has_as_many_partial_images_as_requested(client, wanted, steps):
    body = {**CIRCLE, "num_inference_steps": 12, "stream": True, "partial_images": wanted}
    *partial, _ = events_of(client.post(IMAGES, json=body))
    assert [each.step for _, each in partial] == steps


def events_of(response):
    """The names and messages of a stream."""
    events = []
    for block in response.text.strip().split("\n\n"):
        name, data = (line.split(": ", 1)[1] for line in block.split("\n"))
        events.append((name, EVENTS[name].model_validate_json(data)))
    return events


# -- jobs


def status_of(client, response):
    """A job's status, by the response to the request that created it."""
    return JobReply.model_validate_json(client.get(response.headers["location"]).content)


def wait_for(client, response):
    until(lambda: status_of(client, response).status not in ("queued", "in_progress"))
    return status_of(client, response)


def test_a_job_is_accepted_queried_and_kept():
    station, gate = gated()
    with in_memory(station, headers=AS_JOB) as client:
        responses = [client.post(IMAGES, json={**CIRCLE, "seed": n}) for n in range(3)]
        assert [response.status_code for response in responses] == [202] * 3
        until(lambda: station.engine.running)
        last = status_of(client, responses[2])
        assert last.status == "queued" and last.queue_position == 2 and last.result is None
        gate.open()
        ended = [wait_for(client, response) for response in responses]
        assert [each.status for each in ended] == ["completed"] * 3 and ended[2].queue_position == 0
        assert (pixels(ended[2].result.data[0].b64_json) == engine_image(2, 2)).all()
        assert client.get(IMAGES + "/img-0").status_code == 404


def test_delete_cancels_a_waiting_job_at_once_and_a_running_one_before_its_next_step():
    station, gate = gated()
    with in_memory(station, headers=AS_JOB) as client:
        running, waiting, last = (client.post(IMAGES, json={**CIRCLE, "num_inference_steps": 50}) for _ in range(3))
        gate.allow(3)
        until(lambda: status_of(client, running).steps_done == 3)
        deleted = client.delete(waiting.headers["location"])
        assert deleted.json()["status"] == "cancelled" and deleted.json()["error"]["code"] == "cancelled"
        assert client.get(last.headers["location"]).json()["queue_position"] == 1
        assert client.delete(running.headers["location"]).json()["status"] == "in_progress"
        gate.allow(1)  # the step that has begun
        assert wait_for(client, running).status == "cancelled"
        assert client.get(running.headers["location"]).json()["steps_done"] == 4
        until(lambda: status_of(client, last).status == "in_progress")
        client.delete(last.headers["location"])


def test_the_oldest_ended_jobs_are_forgotten(monkeypatch):
    monkeypatch.setattr(stations, "KEPT_JOBS", 2)
    with in_memory(make_station(), headers=AS_JOB) as client:
        responses = []
        for _ in range(4):
            responses.append(client.post(IMAGES, json=CIRCLE))
            wait_for(client, responses[-1])
        codes = [client.get(response.headers["location"]).status_code for response in responses]
        assert codes == [404, 200, 200, 200]  # the last one was accepted when two had ended


# -- limits


def test_a_full_queue_is_429_with_the_time_to_finish_the_work():
    station, _ = gated(queue=1)
    body = {**CIRCLE, "num_inference_steps": 40}
    with in_memory(station) as client:
        client.post(IMAGES, json=body, headers=AS_JOB)
        until(lambda: station.engine.running)
        client.post(IMAGES, json=body, headers=AS_JOB)
        station.round_s = 0.6
        response = client.post(IMAGES, json=CIRCLE)
        error = response.json()["error"]
        assert response.status_code == 429 and error["code"] == "queue_full" and error["type"] == "rate_limit_error"
        assert response.headers["retry-after"] == "48"  # seconds of 80 rounds
        station.round_s = 60.0
        assert client.post(IMAGES, json=CIRCLE).headers["retry-after"] == "60"  # the maximum
        assert metric(client, "edgebrush_requests_total", status="429") == 2


def test_all_images_of_a_request_are_admitted_or_none():
    station, _ = gated(queue=2)
    with in_memory(station) as client:
        assert client.post(IMAGES, json={**CIRCLE, "n": 4}).status_code == 429
        assert not station.engine.waiting and not station.engine.running


def test_a_waiting_request_is_dropped_at_its_deadline_and_a_running_one_finishes():
    station, gate = gated()
    with in_memory(station) as client:
        running = client.post(IMAGES, json={**CIRCLE, "deadline_s": 0.01}, headers=AS_JOB)
        until(lambda: station.engine.running)
        waiting = client.post(IMAGES, json={**CIRCLE, "deadline_s": 0.05})
        assert waiting.status_code == 504 and waiting.json()["error"]["code"] == "deadline_exceeded"
        assert status_of(client, running).status == "in_progress"  # although its deadline has passed, too
        gate.open()
        assert wait_for(client, running).status == "completed"


def test_class_0_is_served_first():
    station, gate = gated()
    with in_memory(station, headers=AS_JOB) as client:
        jobs = {}
        for level in (3, 2, 0, 1):
            jobs[level] = client.post(IMAGES, json={**CIRCLE, "service_class": level})
            until(lambda: gate.blocked)  # the first one runs before the others arrive
        for level in (3, 0, 1, 2):
            assert status_of(client, jobs.pop(level)).status == "in_progress"
            assert all(status_of(client, job).status == "queued" for job in jobs.values())
            gate.allow(2)  # steps
            if jobs:
                until(lambda: len(station.engine.waiting) == len(jobs) - 1)


# -- load, metrics, token, health


def test_the_load_has_the_simulators_fields():
    station, gate = gated(batch=2, queue=9, connections=11)
    with in_memory(station, headers=AS_JOB) as client:
        empty = Load.model_validate_json(client.get("/v1/load").content)
        assert (empty.running, empty.steps_left, empty.waiting, empty.round_s) == (0, 0, [0] * 4, 0)
        for steps, level in [(30, 0), (40, 0), (5, 1), (6, 1), (7, 0)]:
            client.post(IMAGES, json={**CIRCLE, "num_inference_steps": steps, "service_class": level})
            until(lambda: gate.blocked)
        gate.allow(5)
        until(lambda: gate.allowed == 0 and gate.blocked)
        load = Load.model_validate_json(client.get("/v1/load").content)
    assert (load.name, load.running, load.connections) == ("bs", 2, 5)
    assert (load.batch_limit, load.queue_limit, load.connection_limit) == (2, 9, 11)
    assert (load.waiting, load.waiting_steps) == ([1, 2, 0, 0], [7, 11, 0, 0])
    assert load.steps_left == 25 + 36  # the first image ran one round alone
    assert load.round_s > 0 and load.time > 1.7e9


def test_metrics_are_correct():
    with in_memory(make_station()) as client:
        replies = [client.post(IMAGES, json=CIRCLE).json() for _ in range(3)]
        client.post(IMAGES, json={**CIRCLE, "prompt": "cat"})
        assert metric(client, "edgebrush_requests_total", status="200") == 3
        assert metric(client, "edgebrush_requests_total", status="422") == 1
        assert metric(client, "edgebrush_steps_total") == 6
        assert metric(client, "edgebrush_energy_joules_total") == pytest.approx(sum(r["energy_j"] for r in replies))
        assert metric(client, "edgebrush_queue_wait_seconds_count") == 3
        assert metric(client, "edgebrush_round_seconds_count") == 6
        assert metric(client, "edgebrush_running") == metric(client, "edgebrush_waiting") == 0
        assert (metric(client, "edgebrush_batch_limit"), metric(client, "edgebrush_queue_limit")) == (4, 32)


def test_all_routes_but_health_and_metrics_need_the_token():
    with in_memory(make_station(), token="s3cret") as client:
        for path in ("/v1/load", "/v1/models", "/openapi.json", IMAGES + "/x", "/nowhere"):
            for header in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Basic s3cret"}):
                response = client.get(path, headers=header)
                assert response.status_code == 401 and response.json()["error"]["code"] == "invalid_api_key", path
                assert response.headers["www-authenticate"] == "Bearer"
        assert client.post(IMAGES, content=b"{").status_code == 401, "before the body is parsed"
        assert metric(client, "edgebrush_requests_total", status="401") == 1
        assert all(client.get(path).status_code == 200 for path in ("/healthz", "/readyz", "/metrics"))
        client.headers["authorization"] = "bearer s3cret"
        assert client.post(IMAGES, json=CIRCLE).status_code == 200
        assert client.get("/v1/models").json()["data"][0]["id"] == "formula"


def test_the_schema_documents_the_token():
    with in_memory(make_station(), token="s3cret", headers={"authorization": "Bearer s3cret"}) as client:
        paths = client.get("/openapi.json").json()["paths"]
    guarded = {path for path, routes in paths.items() if any("security" in route for route in routes.values())}
    assert set(paths) - guarded == {"/healthz", "/readyz", "/metrics", "/files/{name}"}


def test_a_wrong_method_names_the_methods_of_the_path(client):
    response = client.put(IMAGES + "/x")
    assert response.status_code == 405 and response.headers["allow"] == "DELETE, GET"


def test_a_failure_of_the_model_has_no_traceback():
    backend = RecordingBackend(Formula())
    with in_memory(make_station(backend=backend)) as client:
        backend.fail = "predict"
        response = client.post(IMAGES, json=CIRCLE)
        assert response.status_code == 503 and "out of memory" in response.json()["error"]["message"]
        assert "Traceback" not in response.text and "retry-after" in response.headers
        backend.fail = ""
        assert client.post(IMAGES, json=CIRCLE).status_code == 200


def test_a_bug_is_500_without_a_traceback(monkeypatch):
    station = make_station()
    monkeypatch.setattr(station, "load", lambda: 1 / 0)
    with in_memory(station) as client:
        response = client.get("/v1/load")
        assert response.status_code == 500 and response.json()["error"]["code"] == "internal_error"
        assert "division" not in response.text


def test_a_dead_engine_is_not_healthy():
    station = make_station()
    with in_memory(station) as client:
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        station.stop_engine.set()
        until(lambda: not station.alive)
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 503


def test_concurrent_requests_share_a_batch():
    station, gate = gated(batch=4)
    with in_memory(station) as client, ThreadPoolExecutor() as pool:
        replies = [pool.submit(client.post, IMAGES, json={**CIRCLE, "seed": seed}) for seed in range(4)]
        until(lambda: len(station.engine.running) + len(station.engine.waiting) == 4)
        gate.open()
        images = [reply.result().json()["data"][0]["b64_json"] for reply in replies]
    assert all((pixels(image) == engine_image(2, seed)).all() for seed, image in enumerate(images))
