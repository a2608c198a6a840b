"""Checks of servers, of each kind: what works, what is ignored, what a request costs, and why one cannot be used."""

import asyncio

import httpx2
import pytest

from edgebrush.clients.check import Probe, check_server, probe_steps, rate_of
from edgebrush.clients.client import Exchange, ImagesClient
from edgebrush.clients.guess import guess_kind
from edgebrush.clients.replies import Reply
from edgebrush.scenario.schema import Endpoint
from tests.support.dialect_servers import DEFAULT_STEPS, SERVERS, Order, SdCppServer, VllmOmniServer
from tests.support.fakes import PNG, FakeNetwork, FakeStation
from tests.support.recordings import KINDS
from tests.support.virtual_time import run_virtual

STEPS = (2, 8)
PX = 32


def check(server, kind=None, **fields):
    """The check of a server, in its own dialect or as another kind."""

    async def run():
        endpoint = Endpoint(base_url="http://large/v1", kind=kind or server.kind, **fields)
        clock = asyncio.get_running_loop().time
        return await check_server(endpoint, PX, STEPS, transport=FakeNetwork({"large": server}), clock=clock)

    return run_virtual(run())


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_server_can_be_used_and_is_recognised(kind):
    server = SERVERS[kind]()
    found = check(server)
    assert found.usable and found.reachable and found.looks_like == kind and found.models
    assert found.size_honoured and found.few.width == PX and found.few.reply_bytes > 0
    assert found.tasks_there == (0.0 if kind in ("edgebrush", "vllm-omni") else None) and not found.load_problem
    assert found.steps_honoured == (kind != "openai") and found.seed_repeats == (None if kind == "openai" else True)
    steps = STEPS if kind != "openai" else (DEFAULT_STEPS, DEFAULT_STEPS)
    assert [order.steps for order in server.orders] == [steps[0], steps[1], steps[0]]
    assert found.few.seconds == pytest.approx(steps[0] * server.step_s)
    assert found.more.seconds == pytest.approx(steps[1] * server.step_s)


def test_steps_that_are_ignored_show_in_the_pictures():
    """A server of sd.cpp that gets its steps at the top level, as another kind of server would take them."""
    found = check(SdCppServer(), kind="vllm-omni")
    assert found.usable and found.looks_like == "sd.cpp"
    assert found.steps_honoured is False and found.steps_evidence == "the pictures are the same"
    assert found.tasks_there is None and found.load_problem == "http://large/metrics: status 404"


class RandomServer(VllmOmniServer):
    """Pictures never repeat, so only the time shows the steps that were made: ``made`` of those asked for."""

    made = staticmethod(lambda steps: steps)

    def order(self, body):
        asked = super().order(body)
        return Order(**vars(asked) | {"seed": None, "steps": self.made(asked.steps)})


@pytest.mark.parametrize(
    ("made", "honoured", "ratio"),
    [(lambda steps: steps, True, "4"), (lambda steps: 20, False, "1"), (lambda steps: 20 + steps // 2, None, "1.1")],
)
def test_without_seeds_the_time_shows_the_steps(made, honoured, ratio):
    server = RandomServer()
    server.made = made
    found = check(server)
    assert found.seed_repeats is False and found.steps_honoured is honoured
    assert found.steps_evidence == f"8 steps took {ratio} times as long as 2"


def test_other_numbers_of_steps_than_asked_for_are_no_choice():
    class Rounding(SERVERS["edgebrush"]):
        def costs(self, order):
            return {"steps_used": 4 * (1 + order.steps // 4)}

    found = check(Rounding())
    assert found.steps_honoured is False and found.steps_evidence == "it states 4 and 12 steps"


@pytest.mark.parametrize("size_px", [16, 64])
def test_another_size_is_noticed(size_px):
    class Fixed(VllmOmniServer):
        def order(self, body):
            return Order(**vars(super().order(body)) | {"px": size_px})

    found = check(Fixed())
    assert found.usable and not found.size_honoured and found.few.width == found.few.height == size_px


def failing(status, reply):
    server = FakeStation()
    server.status, server.reply = status, reply
    return server


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        (failing(500, b"no memory"), "no image: status 500: no memory"),
        (failing(422, {"error": {"message": "prompt"}}), "no image: status 422: prompt"),
        (failing(429, {"error": {"message": "full"}}), "no image: status 429: full"),
        (failing(200, b"no JSON"), "no image: its reply is not JSON"),
        (failing(200, {"data": []}), "no image: its reply has no image under data[0].b64_json"),
        (failing(204, b""), "no image: its reply is not JSON"),
        (failing(302, b""), "no image: status 302: "),
    ],
)
def test_a_server_without_images_cannot_be_used(server, problem):
    found = check(server, kind="edgebrush")
    assert found.problem == problem and found.reachable and not found.usable and found.few is None


def test_a_server_that_is_gone_was_not_reached():
    server = FakeStation()
    server.reachable = False
    found = check(server, kind="edgebrush")
    assert found.problem and not found.reachable and found.round_trip_s is None


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_named(status):
    server = FakeStation()
    server.load_status = status
    found = check(server, kind="edgebrush")
    assert found.problem.startswith(f"status {status} to its load request; ") and "token" in found.problem


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "edgebrush"])
def test_another_server_is_no_station(kind):
    found = check(SERVERS[kind](), kind="edgebrush")
    assert found.problem == f"it is no `edgebrush serve`; give endpoint.kind in the scenario: {kind}"


def test_a_server_that_hangs_is_given_up():
    class Hanging(VllmOmniServer):
        async def make(self, order):
            await asyncio.sleep(3600.0)

    found = check(Hanging())
    assert found.problem == "no image: no answer in time; check that it runs, the address and the firewall"


def test_an_unknown_program_is_not_guessed():
    async def guess(models):
        server = FakeStation()
        server.load = None
        server.pages["/v1/models"] = models
        client = ImagesClient(Endpoint(base_url="http://x/v1"), PX, transport=FakeNetwork({"x": server}))
        return await guess_kind(client)

    for models in (b"", b"[]", b'{"data": 1}', b'{"data": [1]}', b'{"data": [{"id": "m", "owned_by": "me"}]}'):
        assert run_virtual(guess(models)) is None


@pytest.mark.parametrize(
    ("grid", "steps"),
    [((2, 4, 8, 30), (2, 8)), ((2, 4, 6), (2, 6)), ((50,), (12, 50)), ((1,), (1, 4)), ((10, 15), (3, 15))],
)
def test_the_numbers_of_steps_can_be_told_apart(grid, steps):
    assert probe_steps(grid) == steps


@pytest.mark.parametrize(
    ("size", "body_s", "headers", "rate"),
    [
        (200_000, 0.1, {}, 2e6),
        (2_000, 0.1, {}, None),  # a small body arrives with the headers
        (200_000, 1e-5, {}, None),
        (2_000, 0.0, {"server-timing": "app;dur=400"}, 2e4),  # 0.1 s of 0.5 s on the network
        (2_000, 0.0, {"server-timing": "app;dur=500"}, None),
    ],
)
def test_the_rate_of_a_link(size, body_s, headers, rate):
    exchange = Exchange(httpx2.Response(200, headers=headers), bytes(size), 0.5, body_s)
    measured = rate_of(Probe(2, exchange, Reply(PNG, 0.0, 0.0, 0.0)))
    assert measured == (rate if rate is None else pytest.approx(rate))
