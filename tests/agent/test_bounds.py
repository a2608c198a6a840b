"""What other machines say is bounded: loads that cannot be read are inferred, and odd numbers change no decision."""

import asyncio
import json

import pytest

from edgebrush.clients.loads import MAX_COUNT, parse_load
from edgebrush.policies.load import load_policy
from edgebrush.scenario.schema import Endpoint
from tests.support.agents import LARGE, TESTBED, PreferSlots, generate_all, make_task, running_agent
from tests.support.fakes import LOAD, PNG, REPLY, FakeStation
from tests.support.virtual_time import run_virtual

DIGITS = int("9" * 400)
RUNNING, WAITING = b"vllm_omni:num_requests_running", b"vllm_omni:num_requests_waiting"
UNREADABLE = {
    "404": None,
    "other names": b"num_requests_running 0\nnum_requests_waiting 0\n",
    "not a number": RUNNING + b" 0\n" + WAITING + b" nan\n",
    "negative": RUNNING + b" -1\n" + WAITING + b" 0\n",
    "400 digits": RUNNING + b" 0\n" + WAITING + b" " + b"9" * 400 + b"\n",
    "a label without end": RUNNING + b'{a="b 0\n' + WAITING + b" 0\n",
    "not text": b"\xff\xfe running",
}


def third_party(kind):
    """The testbed, whose first BS is a server with metrics."""
    endpoint = Endpoint(base_url="http://large/v1", kind=kind)
    return TESTBED.model_copy(
        update={"bss": (TESTBED.bss[0].model_copy(update={"endpoint": endpoint}), TESTBED.bss[1])}
    )


class BusyServer(FakeStation):
    """A server at which five others wait, so every image takes its time."""

    async def page_delay(self):
        await asyncio.sleep(0.005)

    async def make_image(self):
        await asyncio.sleep(1.5)


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_server_whose_load_cannot_be_read_is_not_taken_for_idle(tmp_path, name, caplog):
    """Its load is inferred from the first slow image, so the other places are used."""
    server = BusyServer()
    if UNREADABLE[name] is not None:
        server.pages["/metrics"] = UNREADABLE[name]

    async def run():
        policy = load_policy("selfish-greedy", TESTBED)
        scenario = third_party("vllm-omni")
        async with running_agent(tmp_path, policy, {"large": server}, scenario=scenario) as agent:
            inferred = []
            for n in range(20):
                await agent.generate(make_task(f"t{n}"))
                await asyncio.sleep(0.2)
                inferred.append(agent.stations[0].infers_load)
            return inferred

    inferred = run_virtual(run())
    assert all(inferred) and len(server.requests) <= 3
    assert len(caplog.records) == 1  # that its load cannot be read, or that it is not used because of the status


def test_a_change_of_the_loads_state_is_logged_once(tmp_path, caplog):
    large = FakeStation()

    async def run():
        async with running_agent(tmp_path, PreferSlots(0), {"large": large}) as agent:
            for load in (LOAD | {"running": 3}, {"unexpected": "words\nof several lines"}, LOAD):
                large.load = load
                await asyncio.sleep(5.0)
            return agent.stations[0].view.load.running

    assert run_virtual(run()) == 0
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 and "\n" not in lines[0]
    assert lines[0].startswith("large: its load cannot be read from http://large/v1/load: ")
    assert lines[1] == "large: its load can be read again"


def test_the_last_load_that_could_be_read_fades(tmp_path):
    large = FakeStation()
    large.load = LOAD | {"running": 4, "waiting": [2, 3], "waiting_steps": [8, 24]}

    async def run():
        async with running_agent(tmp_path, PreferSlots(0), {"large": large}) as agent:
            large.load = {}
            await asyncio.sleep(1.1)
            early = agent.stations[0].view_at(agent.clock()).load
            await asyncio.sleep(20.0)
            return early, agent.stations[0].view_at(agent.clock()).load

    early, late = run_virtual(run())
    assert early.running > 1 and sum(early.waiting) > 0 and late.running == sum(late.waiting) == 0


def load_with(field, number):
    return LOAD | {field: [0, number] if isinstance(LOAD[field], list) else number}


COUNTS = ["running", "steps_left", "waiting", "waiting_steps", "connections"]


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("number", [DIGITS, MAX_COUNT * 10, -1, "nan", 0.5])
def test_a_load_with_an_impossible_number_is_invalid(field, number):
    with pytest.raises(ValueError):
        parse_load(json.dumps(load_with(field, number)).encode(), 0.0, 2)


@pytest.mark.parametrize("field", COUNTS)
def test_a_number_of_400_digits_breaks_no_decision(tmp_path, field):
    large = FakeStation()
    large.load = load_with(field, DIGITS)
    [result] = generate_all(tmp_path, load_policy("priced-greedy", TESTBED), {"large": large}, [make_task("t")])
    assert result.image


@pytest.mark.parametrize("field", ["queue_s", "compute_s", "energy_j"])
@pytest.mark.parametrize("number", [DIGITS, 1e300, -1.0, float("nan"), "many"])
def test_an_impossible_cost_counts_as_not_reported(tmp_path, field, number):
    large = FakeStation(delay_s=0.1)
    large.reply = REPLY | {"energy_j": 0.0, field: number}

    async def run():
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": large}) as agent:
            result = await agent.generate(make_task("t"))
            return result, agent.stations[0].view

    result, view = run_virtual(run())
    assert result.image == PNG and result.attempts == 1
    assert result.queue_s == 0.0 and result.compute_s == 0.0 and result.energy_bs_j == 0.0
    assert view.up_bps < 1e9 and view.down_bps < 1e9


def test_more_seconds_than_the_exchange_took_are_not_believed(tmp_path):
    """Otherwise a BS could claim an infinitely fast link."""
    large = FakeStation(delay_s=0.1)
    large.reply = REPLY | {"queue_s": 3.0, "compute_s": 40.0}

    async def run():
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": large}) as agent:
            before = agent.stations[0].view.up_bps
            await agent.generate(make_task("t"))
            return before, agent.stations[0].view.up_bps

    before, after = run_virtual(run())
    assert after <= before


@pytest.mark.parametrize("body", [b"{" * 10_000, b"9" * 10_000, b'{"error": {"message": {"a": 1}, "code": []}}', b""])
def test_an_odd_error_is_still_one_line(tmp_path, body):
    large = FakeStation()
    large.status, large.reply = 500, body
    [result] = generate_all(tmp_path, PreferSlots(LARGE, 0), {"large": large}, [make_task("t")])
    assert result.place == "own"


def test_a_load_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("edgebrush.clients.client.MAX_LOAD_BYTES", 100)
    large = FakeStation()
    large.load = LOAD | {"name": "x" * 200}

    async def run():
        async with running_agent(tmp_path, PreferSlots(0), {"large": large}) as agent:
            return agent.stations[0].unavailable

    assert run_virtual(run())
