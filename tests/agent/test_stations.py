"""Clients of BSs: what third-party servers are sent, how rates are estimated, and how a load is read or inferred."""

import asyncio
import itertools
import json

import numpy as np
import pytest

from edgebrush.agent.endpoints import build_stations
from edgebrush.agent.observer import Observer
from edgebrush.agent.stations import HEADER_BYTES, update_rate
from edgebrush.clients.loads import ServerSpec, infer_load, read_gauge
from edgebrush.decision import observation as obs
from edgebrush.errors import UserError
from edgebrush.scenario.expand import bs_names
from edgebrush.scenario.load import fields_hash, load_scenario
from edgebrush.scenario.schema import Endpoint, Link, Scenario
from tests.support.agents import (
    LARGE,
    SMALL,
    TESTBED,
    PreferSlots,
    audit_journal,
    generate_all,
    make_task,
    running_agent,
)
from tests.support.fakes import LOAD, PNG, REPLY, FakeStation
from tests.support.virtual_time import run_virtual

SERVER = ServerSpec(fixed_s=0.1, round_intercept_s=0.02, round_slope_s=0.01, batch_limit=4, size_px=28)
METRICS = """\
# HELP vllm:num_requests_running Requests that run.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model="a",worker="0"} 2.0
vllm:num_requests_running{model="a",worker="1"} 1.0
vllm:num_requests_running_total 17.0
vllm:num_requests_waiting 5.0
"""


class FarStation(FakeStation):
    """A station whose pages take a round trip of 0.1 s."""

    async def page_delay(self):
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("link", [None, Link(up_bps=4e6, down_bps=1e7, round_trip_s=0.1)], ids=["radio", "link"])
def test_a_measured_link_is_where_the_estimate_of_the_rates_begins(tmp_path, link):
    """Small pages cannot show how fast a far station is, so without it no image would go there."""

    async def run():
        large = TESTBED.bss[0].model_copy(update={"link": link})
        scenario = TESTBED.model_copy(update={"bss": (large, TESTBED.bss[1])})
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": FarStation()}, scenario=scenario) as agent:
            await asyncio.sleep(10.0)  # of load queries
            return agent.stations[0].view

    view = run_virtual(run())
    bits_in, bits_out = 4e3, 8e3  # of all of the testbed's requests
    if link is None:
        assert view.up_bps < 1e5
    else:
        assert view.up_bps == pytest.approx(bits_in / (0.05 + bits_in / 4e6), rel=1e-3)
        assert view.down_bps == pytest.approx(bits_out / (0.05 + bits_out / 1e7), rel=1e-3)


def with_endpoint(**fields) -> Scenario:
    """The testbed; its first BS is a third-party server."""
    large = TESTBED.bss[0].model_copy(update={"endpoint": Endpoint(**fields)})
    return TESTBED.model_copy(update={"bss": (large, TESTBED.bss[1])})


def generate(folder, scenario, server, tasks=1, policy=None):
    """The results of tasks at the first BS, one after the other, and that BS as its UE sees it."""

    async def run():
        stations = {"large": server}
        async with running_agent(folder, policy or PreferSlots(LARGE), stations, scenario=scenario) as agent:
            results = [await agent.generate(make_task(f"t{n}", negative="blurry")) for n in range(tasks)]
            return results, agent.stations[0]

    return run_virtual(run())


def test_a_third_party_server_gets_only_the_fields_that_it_knows(tmp_path, monkeypatch):
    monkeypatch.setenv("THEIR_KEY", "sesame")
    server = FakeStation()
    server.reply = {"created": 0, "data": REPLY["data"]}
    fields = {"base_url": "http://large/v1/", "api_key_env": "THEIR_KEY", "model": "sdxl", "kind": "openai"}
    [result], _ = generate(tmp_path, with_endpoint(**fields), server)
    [(body, headers)] = server.requests
    assert body == {"prompt": "circle", "n": 1, "size": "28x28", "response_format": "b64_json", "model": "sdxl"}
    assert headers["Authorization"] == "Bearer sesame" and result.image == PNG
    assert audit_journal(tmp_path, 1) == 1


def test_a_load_is_read_from_prometheus(tmp_path, caplog):
    server = FakeStation()
    server.pages["/metrics"] = METRICS.encode()
    scenario = with_endpoint(base_url="http://large/v1", kind="vllm-omni")
    policy = PreferSlots(LARGE)
    generate(tmp_path, scenario, server, policy=policy)
    server.pages["/metrics"] = b"nothing of interest"
    _, station = generate(tmp_path / "b", scenario, server)
    _, candidates, _ = policy.layout.split(policy.seen[0])
    assert candidates[LARGE, obs.LOAD] == (3 + 5) / 4 and candidates[LARGE, obs.QUEUED] == 5
    assert not station.unavailable and station.view.load.running == 0  # it generated the image all the same
    assert caplog.text.count("large: its load cannot be read") == 1 and "num_requests_running is missing" in caplog.text


@pytest.mark.parametrize(
    "text",
    ["", "other 1", "load nan", "load -1", "load inf", 'load{a="b"} x', "load ", "load{}", "load 1e308\nload 1e308"],
)
def test_an_invalid_metric_is_an_error(text):
    with pytest.raises(ValueError):
        read_gauge(text, "load")


def test_a_metric_is_summed_over_its_labels():
    assert read_gauge(METRICS, "vllm:num_requests_running") == 3.0
    assert read_gauge('load{path="/a b}"} 4 1700000000', "load") == 4.0


@pytest.mark.parametrize("others", [0, 1, 3])
def test_up_to_a_full_batch_the_batch_is_inferred(others):
    steps, batch = 10, others + 1  # the task itself, which has ended, is not counted
    load = infer_load(SERVER, 0.1 + steps * (0.02 + 0.01 * batch), steps, 0.0, 2)
    assert load.running == pytest.approx(others) and sum(load.waiting) == pytest.approx(0.0, abs=1e-9)


def test_beyond_a_full_batch_waiting_tasks_are_inferred():
    full_s = 0.1 + 10 * 0.06
    load = infer_load(SERVER, 3 * full_s, 10, 0.0, 2)
    # Of 11 others, 4 run: a waiting one took the task's place.
    assert load.running == 4 and load.waiting[0] == pytest.approx(7) and load.waiting_steps[0] == pytest.approx(70)


def test_an_inferred_load_fades_to_the_own_tasks(tmp_path):
    _, station = generate(tmp_path, with_endpoint(base_url="http://large/v1", kind="openai"), FakeStation(delay_s=0.5))
    assert station.view.load.running >= 1  # from its own round trip
    station.view.load = infer_load(station.server, 10.0, 2, 0.0, 2)
    assert station.view_at(0.0).load.running == 4.0 and station.view_at(0.0).load.waiting[0] > 10
    assert station.view_at(100.0).load.running < 0.01 and station.view_at(100.0).load.time == 0.0
    station.view.in_flight = 6
    later = station.view_at(1e6).load
    assert later.running == 4 and later.waiting[0] == 2 and later.connections == 6


def test_the_first_load_requests_estimate_the_rates(tmp_path):
    class SlowPages(FakeStation):
        delays_s = itertools.chain([0.05, 0.02, 0.03], itertools.repeat(0.001))

        async def page_delay(self):
            await asyncio.sleep(next(self.delays_s))

    async def run():
        async with running_agent(tmp_path, PreferSlots(0), {"large": server}) as agent:
            while len(agent.stations[0].probes_bps) < 3:
                await asyncio.sleep(0.01)
            return agent.stations[0].view

    server = SlowPages()
    view = run_virtual(run())
    bits = 8 * (HEADER_BYTES + len(json.dumps(LOAD)))
    assert server.load_requests == 3 and view.up_bps == view.down_bps == pytest.approx(bits / 0.02)


def test_rates_converge_to_the_travel_time(tmp_path):
    large = FakeStation(delay_s=0.03)
    large.reply = REPLY | {"queue_s": 0.008, "compute_s": 0.002}  # so 20 ms for 12,000 bits
    _, station = generate(tmp_path, with_endpoint(base_url="http://large/v1"), large, tasks=60)
    travel_s = 4000 / station.view.up_bps + 8000 / station.view.down_bps
    assert travel_s == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize("guidance", [None, 1.0, 4.0])
def test_a_station_decides_about_the_guidance_that_a_client_leaves_out(tmp_path, guidance):
    large = FakeStation()
    generate_all(tmp_path, PreferSlots(LARGE), {"large": large}, [make_task("t", guidance=guidance)])
    assert large.requests[0][0].get("guidance_scale") == guidance


def test_bss_of_one_entry_are_numbered():
    campus = load_scenario("campus")
    names = bs_names(campus)
    assert len(names) == campus.bs_count and len(set(names)) == len(names)
    several = campus.bss[0].model_copy(update={"count": 2, "positions": None})
    assert bs_names(campus.model_copy(update={"bss": (several,)})) == [f"{several.name}-1", f"{several.name}-2"]


def test_errors_name_the_field_and_the_fix(monkeypatch):
    observer = Observer(TESTBED, 0, 1.0)
    with pytest.raises(UserError, match="station = 'huge': testbed has large, small"):
        build_stations(observer, {"huge": "http://x"})
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(UserError, match="api_key_env = 'NO_SUCH_KEY'"):
        build_stations(Observer(with_endpoint(base_url="http://x/v1", api_key_env="NO_SUCH_KEY"), 0, 1.0), {})
    one = TESTBED.model_copy(update={"decision": TESTBED.decision.model_copy(update={"neighbours": 1})})
    with pytest.raises(UserError, match="2 given, but a UE of testbed considers 1"):
        build_stations(Observer(one, 0, 1.0), {"large": "http://x", "small": "http://y"})


def test_only_a_given_endpoint_changes_the_hash(tmp_path):
    assert fields_hash(with_endpoint(base_url="http://x/v1")) != fields_hash(TESTBED)
    assert "endpoint" not in TESTBED.model_dump_json()


def test_the_slots_have_the_scenarios_order(tmp_path):
    async def run():
        stations = {"small": FakeStation(), "large": FakeStation()}
        async with running_agent(tmp_path, PreferSlots(SMALL), stations) as agent:
            agent.observe(agent.observer.task_context("idle", "bag", 0.0), ())
            return agent.observer.candidates[:, obs.NUMBER]

    np.testing.assert_array_equal(run_virtual(run()), [0, 1, 2])


@pytest.mark.parametrize("fields", [{"base_url": "http://x:y/v1"}, {"base_url": "http://x/v1", "metrics_url": "m"}])
def test_an_invalid_address_is_an_error(fields):
    with pytest.raises(UserError, match="station = large"):
        build_stations(Observer(with_endpoint(kind="vllm-omni", **fields), 0, 1.0), {})


def test_rates_are_averaged_as_seconds_per_bit():
    assert update_rate(100.0, 100.0) == pytest.approx(100.0)
    assert 1 / update_rate(100.0, 50.0) == pytest.approx(0.8 / 100 + 0.2 / 50)
    assert update_rate(100.0, 1e12) < 126  # one lucky measurement
