"""Replies of the agent's HTTP interface: formats, files, streams, partial success, and the status of each failure."""

import base64
import io
import json
import threading
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from edgebrush.agent.app import create_app
from tests.support.agents import LARGE, SMALL, PreferSlots, make_agent
from tests.support.fakes import PNG, FakeStation
from tests.support.models import Formula
from tests.support.serving import Gate, until

IMAGES = "/v1/images/generations"
CIRCLE = {"prompt": "circle"}


@contextmanager
def client_of(folder, *slots, stations=None, backend=None, steps=2):
    """A client of an agent, and the agent, which prefers these slots."""
    agent = make_agent(folder, PreferSlots(*slots, steps=steps), stations or {}, backend)
    with TestClient(create_app(agent), raise_server_exceptions=False) as client:
        yield client, agent


@pytest.fixture(scope="module")
def own_device(tmp_path_factory):
    with client_of(tmp_path_factory.mktemp("journal"), 0, steps=10) as (client, _):
        yield client


def opened(b64_json):
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


def events_of(response):
    """The names and messages of a stream."""
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in response.text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("slot", [0, LARGE])
def test_images_of_every_place_have_the_requested_format(tmp_path, format, slot):
    with client_of(tmp_path, slot, stations={"large": FakeStation()}) as (client, _):
        reply = client.post(IMAGES, json={**CIRCLE, "n": 2, "output_format": format}).json()
    assert all(set(each) == {"b64_json"} for each in reply["data"])
    assert reply["served_by"] == ("large" if slot else "own")
    assert [opened(each["b64_json"]).format for each in reply["data"]] == [format.upper()] * 2
    assert (reply["output_format"], reply["size"]) == (format, "28x28")


def test_images_can_be_downloaded(own_device):
    body = {**CIRCLE, "n": 9, "response_format": "url", "output_format": "webp"}
    images = own_device.post(IMAGES, json=body).json()["data"]
    assert all(set(each) == {"url"} for each in images)
    urls = [each["url"] for each in images]
    files = [own_device.get(url) for url in urls]
    assert len(set(urls)) == 9 and {each.headers["content-type"] for each in files} == {"image/webp"}
    assert Image.open(io.BytesIO(files[-1].content)).size == (28, 28)


def test_fields_without_effect_are_listed(own_device):
    body = {**CIRCLE, "quality": "hd", "model": "gpt-image-2", "size": "512x512", "user": None}
    assert own_device.post(IMAGES, json=body).json()["ignored"] == ["model", "quality", "size"]


# -- streams


@pytest.mark.parametrize("wanted", [None, 0, 1, 3])
def test_the_own_device_streams_as_many_partial_images_as_requested(own_device, wanted):
    body = {**CIRCLE, "stream": True, "partial_images": wanted, "seed": 1, "output_format": "jpeg"}
    *partial, (last, completed) = events_of(own_device.post(IMAGES, json=body))
    assert [name for name, _ in partial] == ["image_generation.partial_image"] * (wanted or 0)
    assert [each["partial_image_index"] for _, each in partial] == list(range(wanted or 0))
    assert last == "image_generation.completed" and opened(completed["b64_json"]).format == "JPEG"
    whole = own_device.post(IMAGES, json={**body, "stream": False}).json()
    assert completed["b64_json"] == whole["data"][0]["b64_json"] and completed["served_by"] == "own"


def test_a_bs_image_is_one_event(tmp_path):
    with client_of(tmp_path, LARGE, stations={"large": FakeStation()}) as (client, _):
        [(name, event)] = events_of(client.post(IMAGES, json={**CIRCLE, "stream": True, "partial_images": 2}))
    assert name == "image_generation.completed" and base64.b64decode(event["b64_json"]) == PNG


def test_a_stream_that_fails_before_its_first_event_has_the_errors_status(own_device):
    reply = own_device.post(IMAGES, json={"prompt": "cat", "stream": True})
    assert reply.status_code == 422 and reply.json()["error"]["param"] == "prompt"


def test_a_stream_that_fails_later_ends_with_an_error_event(tmp_path):
    class Breaks(Formula):
        def predict(self, samples, times, conditions):
            if min(times) < 0.5:
                raise RuntimeError("out of memory")
            return super().predict(samples, times, conditions)

    with client_of(tmp_path, 0, backend=Breaks(), steps=10) as (client, _):
        body = {**CIRCLE, "stream": True, "partial_images": 3}
        first, *_, (last, error) = events_of(client.post(IMAGES, json=body))
    assert first[0] == "image_generation.partial_image" and last == "error"
    assert "out of memory" in error["error"]["message"] and error["error"]["code"] == "no_image"


# -- failures


def test_a_client_s_mistake_is_422_and_tried_at_no_bs_twice(tmp_path):
    large = FakeStation()
    large.status, large.reply = 422, {"error": {"message": "class = 'Sneaker': unknown"}}
    with client_of(tmp_path, LARGE, 0, stations={"large": large}) as (client, _):
        reply = client.post(IMAGES, json={"prompt": "Sneaker"})
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["param"]) == (422, "invalid_request_error", "prompt")
    assert "x-should-retry" not in reply.headers and "retry-after" not in reply.headers
    assert len(large.requests) == 1


def test_a_failure_at_all_places_is_502_and_should_not_be_retried(tmp_path):
    large = FakeStation()
    large.status = 500

    class Broken(Formula):
        def predict(self, samples, times, conditions):
            raise RuntimeError("out of memory")

    with client_of(tmp_path, LARGE, 0, stations={"large": large}, backend=Broken()) as (client, _):
        reply = client.post(IMAGES, json=CIRCLE)
    assert reply.status_code == 502 and reply.headers["x-should-retry"] == "false"
    assert reply.json()["error"]["code"] == "no_image"


def test_overload_of_all_places_is_429_with_the_earliest_time_to_try_again(tmp_path):
    large, small, gate = FakeStation(), FakeStation(), Gate()
    for station, wait in ((large, "9"), (small, "6.5")):
        station.status, station.headers = 429, {"retry-after": wait}
    stations = {"large": large, "small": small}
    with client_of(tmp_path, LARGE, SMALL, 0, stations=stations, backend=gate) as (client, agent):
        agent.device.queue_limit = 0
        with blocked_device(agent, gate):
            reply = client.post(IMAGES, json=CIRCLE)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["code"]) == (429, "rate_limit_error", "all_places_full")
    assert "x-should-retry" not in reply.headers and 1 <= int(reply.headers["retry-after"]) <= 7


def test_a_request_that_met_overload_can_be_repeated_with_its_idempotency_key(tmp_path):
    gate, key = Gate(), {"idempotency-key": "mine"}
    with client_of(tmp_path, 0, backend=gate) as (client, agent):
        agent.device.queue_limit = 0
        with blocked_device(agent, gate):
            replies = [client.post(IMAGES, json={**CIRCLE, "n": 2}, headers=key) for _ in range(2)]
        until(lambda: not agent.device.queue().busy_s)
        agent.device.queue_limit = 8
        replies += [client.post(IMAGES, json={**CIRCLE, "n": 2}, headers=key) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [429, 429, 200, 200]
    assert replies[2].json()["data"] == replies[3].json()["data"]


def test_images_that_could_be_made_are_delivered_beside_the_errors_of_the_others(tmp_path):
    gate = Gate()
    with client_of(tmp_path, 0, backend=gate) as (client, agent):
        agent.device.queue_limit = 2
        with blocked_device(agent, gate):
            replies = []
            thread = threading.Thread(target=lambda: replies.append(client.post(IMAGES, json={**CIRCLE, "n": 6})))
            thread.start()
            until(lambda: len(agent.running) == 2)  # the others did not get into the queue
            gate.open()
            thread.join()
    [reply] = replies
    assert reply.status_code == 200
    assert (len(reply.json()["data"]), len(reply.json()["errors"])) == (2, 4)
    assert {each["code"] for each in reply.json()["errors"]} == {"all_places_full"}


@contextmanager
def blocked_device(agent, gate):
    """An image is being made on the device, until the gate opens."""
    from edgebrush.diffusion.backend import Prompt
    from edgebrush.diffusion.engine import Request

    agent.device.engine.submit(Request(Prompt("circle"), 2, 1))
    until(lambda: gate.blocked)
    try:
        yield
    finally:
        gate.open()
