"""Checks of servers, of each kind: what works, what is ignored, what a request costs, and why one cannot be used."""

import asyncio

import pytest

from edgebrush.clients.check import check_server
from edgebrush.scenario.schema import Endpoint
from tests.support.dialect_servers import DEFAULT_STEPS, SERVERS
from tests.support.fakes import FakeNetwork
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
    assert found.reports_load == (kind in ("edgebrush", "vllm-omni"))
    assert found.steps_honoured == (kind != "openai") and found.seed_repeats == (None if kind == "openai" else True)
    steps = STEPS if kind != "openai" else (DEFAULT_STEPS, DEFAULT_STEPS)
    assert [order.steps for order in server.orders] == [steps[0], steps[1], steps[0]]
    assert found.few.seconds == pytest.approx(steps[0] * server.step_s)
    assert found.more.seconds == pytest.approx(steps[1] * server.step_s)
