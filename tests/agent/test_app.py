"""The agent's HTTP interface: OpenAI's client, invalid requests, clients that disconnect or repeat a request."""

import asyncio
import base64
import gc
import json

import openai
import pytest
from fastapi.testclient import TestClient

from edgebrush.agent.app import create_app
from edgebrush.api.schema import MAX_SEED
from edgebrush.journal.reader import read_journal
from tests.support.agents import LARGE, PreferSlots, audit_journal, journal_lines, make_agent
from tests.support.fakes import PNG, FakeStation
from tests.support.serving import serve_app
from tests.support.virtual_time import run_virtual

IMAGES = "/v1/images/generations"


@pytest.fixture(scope="module")
def own_device(tmp_path_factory):
    """A client of an agent that generates everything on its own device, and its journal's folder."""
    folder = tmp_path_factory.mktemp("journal")
    with TestClient(create_app(make_agent(folder, PreferSlots(0), {}))) as client:
        yield client, folder


@pytest.mark.process
def test_openais_client_gets_its_images(tmp_path):
    with serve_app(create_app(make_agent(tmp_path, PreferSlots(0), {}))) as (_, url):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        extra = {"request": "waiting"}
        reply = client.images.generate(prompt="circle", n=2, response_format="b64_json", extra_body=extra)
    assert len(reply.data) == 2 and reply.data[0].b64_json != reply.data[1].b64_json
    assert base64.b64decode(reply.data[0].b64_json).startswith(b"\x89PNG")
    assert reply.served_by == "own" and reply.steps_used == 2 and reply.energy_j > 0
    assert audit_journal(tmp_path, 2) == 2


def test_the_same_seed_gives_the_same_image(own_device):
    client, _ = own_device
    first, again, other = (client.post(IMAGES, json={"prompt": "circle", "seed": seed}).json() for seed in (3, 3, 4))
    assert first["data"] == again["data"] != other["data"]


def test_seeds_of_several_images_wrap_around_as_at_a_station(own_device):
    client, _ = own_device
    seeds = {"last": {"seed": MAX_SEED}, "first": {"seed": 0}, "both": {"seed": MAX_SEED, "n": 2}}
    images = {name: client.post(IMAGES, json={"prompt": "circle", **each}).json() for name, each in seeds.items()}
    assert images["both"]["data"] == images["last"]["data"] + images["first"]["data"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"prompt": "circle", "num_inference_steps": 4}, 400, "num_inference_steps = 4: not supported by this server"),
        ({"prompt": "circle", "service_class": 0}, 400, "service_class = 0: not supported by this server"),
        ({"prompt": "circle", "stream": True, "n": 2}, 400, "n = 2: a stream carries one image"),
        ({"prompt": "circle", "background": "transparent"}, 400, "background = 'transparent': must be"),
        ({"prompt": "circle", "size": "99x99"}, 400, "size = '99x99': must be 28x28, auto, or a standard size"),
        ({"prompt": "circle", "model": "sdxl"}, 404, "model = 'sdxl': this server has edgebrush"),
        ({"prompt": "circle", "request": "lazy"}, 400, "request = 'lazy': the scenario has waiting, browsing, idle"),
        ({"prompt": "circle", "sedd": 1}, 400, "sedd: no such field"),
        ({"prompt": "circle", "deadline_s": 1e-9}, 504, "its deadline has passed"),
        ({"prompt": "cat"}, 422, "own device: class = 'cat': formula knows"),
    ],
)
def test_errors_have_openais_format(own_device, body, status, message):
    client, _ = own_device
    reply = client.post(IMAGES, json=body)
    assert reply.status_code == status and message in reply.json()["error"]["message"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("PUT", IMAGES, 405)])
def test_unknown_paths_and_methods_have_openais_format(own_device, method, path, status):
    client, _ = own_device
    reply = client.request(method, path)
    assert reply.status_code == status and reply.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_too_large_or_no_json_has_openais_format(own_device):
    client, _ = own_device
    for content, status in ((b"{", 400), (b" " * 200_000, 413)):
        reply = client.post(IMAGES, content=content, headers={"content-type": "application/json"})
        assert reply.status_code == status and set(reply.json()["error"]) == {"message", "type", "param", "code"}


def test_the_agents_model_is_listed(own_device):
    client, _ = own_device
    [model] = client.get("/v1/models").json()["data"]
    assert model["id"] == "edgebrush" and client.get("/v1/models/edgebrush").json() == model
    assert client.get("/v1/models/light").status_code == 404


def test_a_repeated_request_gets_the_first_ones_images(own_device):
    client, folder = own_device
    before = len(journal_lines(folder))
    replies = [
        client.post(IMAGES, json={"prompt": "circle", "n": 2}, headers={"idempotency-key": "mine"}).json()
        for _ in range(2)
    ]
    assert replies[0]["data"] == replies[1]["data"]
    accepted = [line["task"] for line in journal_lines(folder)[before:] if line["event"] == "accepted"]
    assert accepted == ["mine-0", "mine-1"]
    assert client.post(IMAGES, json={"prompt": "circle"}, headers={"idempotency-key": "../x"}).status_code == 400


@pytest.mark.parametrize(
    "other", [{"prompt": "square"}, {"seed": 4}, {"n": 2}, {"request": "idle"}, {"n": 1, "seed": 3}]
)
def test_a_key_that_comes_with_another_request_is_refused(own_device, other):
    client, folder = own_device
    body, headers = {"prompt": "circle", "seed": 3, "n": 1}, {"idempotency-key": f"key-{len(str(other))}"}
    images = client.post(IMAGES, json=body, headers=headers).json()["data"]
    accepted = len(read_journal(folder))
    answer = client.post(IMAGES, json=body | other, headers=headers)
    if body | other == body:
        assert answer.json()["data"] == images
    else:
        assert answer.status_code == 422 and answer.json()["error"]["code"] == "idempotency_mismatch"
    assert len(read_journal(folder)) == accepted


async def post(app, headers, disconnect_s, prompt="circle", **fields):
    """Send a request to an ASGI application and disconnect after a time; the status, or None without a response."""
    body = json.dumps({"prompt": prompt, **fields}).encode()
    headers = {"host": "x", "content-type": "application/json", **headers}
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    statuses = []

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.sleep(disconnect_s)
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": IMAGES,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    return statuses[0]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_disconnects_ends_its_task_unless_it_can_repeat_the_request(tmp_path, stream):
    large = FakeStation(delay_s=0.5)

    async def run():
        agent = make_agent(tmp_path, PreferSlots(LARGE), {"large": large})
        app = create_app(agent)
        async with app.router.lifespan_context(app):
            for headers in ({}, {"idempotency-key": "back"}):
                assert await post(app, headers, disconnect_s=0.1, stream=stream) == 499
            left = dict(agent.running)
            assert await post(app, {"idempotency-key": "back"}, disconnect_s=60.0, stream=stream) == 200
            return list(left), agent.journal.result("back-0")

    left, result = run_virtual(run())
    assert left == ["back-0"] and result.image == PNG and len(large.requests) == 2
    assert audit_journal(tmp_path, 2) == 1
    [error] = [
        line["ended"]["error"] for line in journal_lines(tmp_path) if line["event"] == "ended" and not line["ok"]
    ]
    assert error == "the client has disconnected"


def test_requests_with_one_key_at_the_same_time_share_their_tasks_or_are_refused(tmp_path):
    large = FakeStation(delay_s=0.5)

    async def run():
        app = create_app(make_agent(tmp_path, PreferSlots(LARGE), {"large": large}))
        async with app.router.lifespan_context(app):
            requests = [
                post(app, {"idempotency-key": "same"}, 60.0, prompt) for prompt in ("circle", "circle", "square")
            ]
            return await asyncio.gather(*requests)

    assert sorted(run_virtual(run())) == [200, 200, 422]
    assert audit_journal(tmp_path, 1) == 1 and len(large.requests) == 1


@pytest.mark.parametrize("disconnect_s", [0.0, 0.1])
def test_a_client_that_leaves_puts_nothing_into_the_log(tmp_path, caplog, disconnect_s):
    async def run():
        app = create_app(make_agent(tmp_path, PreferSlots(LARGE), {"large": FakeStation(delay_s=0.5)}))
        async with app.router.lifespan_context(app):
            for headers in ({}, {"idempotency-key": "back"}):
                assert await post(app, headers, disconnect_s) == 499
            await asyncio.sleep(1.0)
            gc.collect()  # asyncio logs exceptions that nobody looked at when they are collected

    run_virtual(run())
    gc.collect()
    assert caplog.text == ""


def test_the_schema_names_the_agents_fields(own_device):
    client, _ = own_device
    schema = json.dumps(client.get("/openapi.json").json())
    assert "AgentImageRequest" in schema and "kind of request" in schema
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
