"""The agent's port over a real socket: OpenAI's own client, wrong wishes, clients that leave or come again."""

import base64
import json
import os
import threading
import time
from contextlib import contextmanager

import httpx
import openai
import pytest

from edgebrush.agent.app import create_app
from edgebrush.api.server import Address, Server
from tests.support.agents import LARGE, PreferSlots, audit, lines, make_agent
from tests.support.fakes import PICTURE, fake_server

pytestmark = pytest.mark.process

IMAGES = "/v1/images/generations"


@contextmanager
def served(folder, policy, urls):
    """The base URL of an agent's port, in a thread."""
    ready = threading.Event()
    server = Server(create_app(make_agent(folder, policy, urls)), Address(port=0), 5.0, ready.set, lambda: None)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(20)
    try:
        yield server.url
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A client of an agent that makes all by itself; its journal's folder."""
    folder = tmp_path_factory.mktemp("home")
    with served(folder, PreferSlots(0), {}) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client, folder


def test_openais_client_gets_its_images(home):
    client, _ = home
    own = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none", max_retries=0)
    reply = own.images.generate(prompt="circle", n=2, response_format="b64_json", extra_body={"request": "waiting"})
    assert len(reply.data) == 2 and reply.data[0].b64_json != reply.data[1].b64_json
    assert base64.b64decode(reply.data[0].b64_json).startswith(b"\x89PNG")
    assert reply.served_by == "own" and reply.steps_used == 2 and reply.energy_j > 0


def test_the_same_seed_gives_the_same_image(home):
    client, _ = home
    first, again, other = (client.post(IMAGES, json={"prompt": "circle", "seed": seed}).json() for seed in (3, 3, 4))
    assert first["data"] == again["data"] != other["data"]


@pytest.mark.parametrize(
    ("wish", "status", "said"),
    [
        ({"prompt": "circle", "num_inference_steps": 4}, 422, "num_inference_steps: the agent decides it"),
        ({"prompt": "circle", "service_class": 0}, 422, "service_class: the agent decides it"),
        ({"prompt": "circle", "stream": True}, 422, "stream: the agent sends one complete reply"),
        ({"prompt": "circle", "request": "lazy"}, 422, "request = 'lazy': the scenario has waiting, browsing, idle"),
        ({"prompt": "circle", "sedd": 1}, 422, "sedd: no such field"),
        ({"prompt": "circle", "deadline_s": 1e-9}, 504, "its deadline has passed"),
        ({"prompt": "cat"}, 502, "own device: class = 'cat': formula knows"),
    ],
)
def test_what_cannot_be_is_an_error_in_openais_shape(home, wish, status, said):
    client, _ = home
    reply = client.post(IMAGES, json=wish)
    assert reply.status_code == status and said in reply.json()["error"]["message"]


def test_a_wish_that_ended_in_an_error_is_not_worth_a_retry(home):
    client, _ = home
    assert client.post(IMAGES, json={"prompt": "cat"}).headers["x-should-retry"] == "false"


def test_a_repeated_request_gets_the_first_ones_images(home):
    client, folder = home
    before = len(lines(folder))
    replies = [
        client.post(IMAGES, json={"prompt": "circle", "n": 2}, headers={"idempotency-key": "mine"}).json()
        for _ in range(2)
    ]
    assert replies[0]["data"] == replies[1]["data"]
    accepted = [line["task"] for line in lines(folder)[before:] if line["event"] == "accepted"]
    assert accepted == ["mine-0", "mine-1"]
    assert client.post(IMAGES, json={"prompt": "circle"}, headers={"idempotency-key": "../x"}).status_code == 422


def test_a_client_that_leaves_ends_its_task_unless_it_can_come_again(tmp_path):
    with fake_server(delay_s=0.5) as large, served(tmp_path, PreferSlots(LARGE), {"large": large.url}) as url:
        for headers in ({}, {"idempotency-key": "back"}):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(url + IMAGES, json={"prompt": "circle"}, headers=headers, timeout=0.1)
        time.sleep(0.1)
        reply = httpx.post(url + IMAGES, json={"prompt": "circle"}, headers={"idempotency-key": "back"}, timeout=20)
    assert base64.b64decode(reply.json()["data"][0]["b64_json"]) == PICTURE and len(large.requests) == 2
    assert audit(tmp_path, 2) == 1
    [error] = [line["ended"]["error"] for line in lines(tmp_path) if line["event"] == "ended" and not line["ok"]]
    assert error == "the client has disconnected"


def test_the_schema_names_what_an_agent_takes(home):
    client, _ = home
    schema = json.dumps(client.get("/openapi.json").json())
    assert "AgentImageRequest" in schema and "kind of request" in schema
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_a_full_disk_is_an_error_not_a_crash(tmp_path, monkeypatch):
    def full(*arguments, **said):
        raise OSError(28, "No space left on device")

    with served(tmp_path, PreferSlots(0), {}) as url:
        with monkeypatch.context() as patch:
            patch.setattr("edgebrush.agent.journal.Journal.write", full)
            reply = httpx.post(url + IMAGES, json={"prompt": "circle"})
        assert reply.status_code == 503 and "No space left" in reply.json()["error"]["message"]
        assert httpx.post(url + IMAGES, json={"prompt": "circle"}).status_code == 200
    assert audit(tmp_path, 1) == 1


def test_an_image_that_cannot_be_kept_is_an_error_not_a_crash(tmp_path, monkeypatch):
    with served(tmp_path, PreferSlots(0), {}) as url:
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.write_bytes", lambda *_: os.write(os.open("/dev/full", os.O_WRONLY), b"image"))
            reply = httpx.post(url + IMAGES, json={"prompt": "circle"})
        assert reply.status_code == 503 and ".png: cannot be written: No space left" in reply.json()["error"]["message"]
        assert httpx.post(url + IMAGES, json={"prompt": "circle"}).status_code == 200
