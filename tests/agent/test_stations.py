"""Servers of others: what they are sent, how they are paid, and how their load is read or inferred."""

import asyncio

import numpy as np
import pytest

from edgebrush.agent.loads import ServerSpec, infer_load, read_gauge
from edgebrush.agent.observer import Observer
from edgebrush.agent.stations import build_stations, update_rate
from edgebrush.decision import observation as obs
from edgebrush.errors import UserError
from edgebrush.scenario.expand import bs_names
from edgebrush.scenario.load import fingerprint, load_scenario
from edgebrush.scenario.schema import Endpoint, Scenario
from tests.support.agents import LARGE, SMALL, TESTBED, PreferSlots, audit, running_agent, task
from tests.support.fakes import PICTURE, REPLY, fake_server

SERVER = ServerSpec(fixed_s=0.1, round_intercept_s=0.02, round_slope_s=0.01, batch_limit=4, size_px=28)
METRICS = """\
# HELP vllm:num_requests_running Requests that run.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model="a",worker="0"} 2.0
vllm:num_requests_running{model="a",worker="1"} 1.0
vllm:num_requests_running_total 17.0
vllm:num_requests_waiting 5.0
"""


def with_endpoint(**fields) -> Scenario:
    """The testbed, its first BS somebody else's."""
    large = TESTBED.bss[0].model_copy(update={"endpoint": Endpoint(**fields)})
    return TESTBED.model_copy(update={"bss": (large, TESTBED.bss[1])})


def made(folder, scenario, tasks=1, policy=None):
    async def run():
        async with running_agent(folder, policy or PreferSlots(LARGE), {}, scenario=scenario) as agent:
            ended = [await agent.generate(task(f"t{n}", negative="blurry")) for n in range(tasks)]
            return ended, agent.stations[0]

    return asyncio.run(run())


@pytest.mark.process
def test_a_plain_server_gets_only_what_it_knows(tmp_path, monkeypatch):
    monkeypatch.setenv("THEIR_KEY", "sesame")
    with fake_server() as server:
        server.reply = {"created": 0, "data": REPLY["data"]}
        fields = {"base_url": f"{server.url}/v1/", "api_key_env": "THEIR_KEY", "model": "sdxl", "load": "none"}
        [ended], _ = made(tmp_path, with_endpoint(**fields))
        [stepped], _ = made(tmp_path / "s", with_endpoint(**fields, steps_field="step"))
    (body, headers), (with_steps, _) = server.requests
    usual = {"prompt": "circle", "n": 1, "size": "28x28", "response_format": "b64_json", "model": "sdxl"}
    assert body == usual and with_steps == usual | {"step": 2}
    assert headers["Authorization"] == "Bearer sesame" and ended.image == stepped.image == PICTURE
    assert audit(tmp_path, 1) == 1


@pytest.mark.process
def test_a_load_is_read_from_prometheus(tmp_path, caplog):
    with fake_server() as server:
        server.pages["/metrics"] = METRICS.encode()
        scenario = with_endpoint(
            base_url=f"{server.url}/v1",
            load="prometheus",
            running_metric="vllm:num_requests_running",
            waiting_metric="vllm:num_requests_waiting",
        )
        policy = PreferSlots(LARGE)
        made(tmp_path, scenario, policy=policy)
        server.pages["/metrics"] = b"nothing of interest"
        _, station = made(tmp_path / "b", scenario)
    _, candidates, _ = policy.layout.split(policy.seen[0])
    assert candidates[LARGE, obs.LOAD] == (3 + 5) / 4 and candidates[LARGE, obs.QUEUED] == 5
    assert not station.unavailable and station.view.board.running == 0  # it made the image all the same
    assert caplog.text.count("large: cannot read its load") == 1 and "num_requests_running: missing" in caplog.text


@pytest.mark.parametrize("text", ["", "other 1", "load nan", "load -1", "load inf", 'load{a="b"} x'])
def test_a_metric_that_cannot_be_is_refused(text):
    with pytest.raises(ValueError):
        read_gauge(text, "load")


def test_a_metrics_labels_are_added_up():
    assert read_gauge(METRICS, "vllm:num_requests_running") == 3.0
    assert read_gauge('load{path="/a b}"} 4 1700000000', "load") == 4.0


@pytest.mark.parametrize("others", [0, 1, 3])
def test_up_to_a_full_batch_the_round_trip_tells_the_batch(others):
    steps, batch = 10, others + 1
    board = infer_load(SERVER, 0.1 + steps * (0.02 + 0.01 * batch), steps, 0.0, 2)
    assert board.running == pytest.approx(batch) and sum(board.waiting) == pytest.approx(0.0, abs=1e-9)


def test_beyond_a_full_batch_it_tells_who_waited():
    full_s = 0.1 + 10 * 0.06
    board = infer_load(SERVER, 3 * full_s, 10, 0.0, 2)
    assert board.running == 4 and board.waiting[0] == pytest.approx(8) and board.waiting_steps[0] == pytest.approx(80)


@pytest.mark.process
def test_an_inferred_load_fades_but_holds_ones_own_tasks(tmp_path):
    with fake_server(delay_s=0.1) as server:
        _, station = made(tmp_path, with_endpoint(base_url=f"{server.url}/v1", load="none"))
    assert station.view.board.running >= 1  # of its own round trip
    station.view.board = infer_load(station.server, 10.0, 2, 0.0, 2)
    assert station.view_at(0.0).board.running == 4.0 and station.view_at(0.0).board.waiting[0] > 10
    assert station.view_at(100.0).board.running < 0.01 and station.view_at(100.0).board.time == 0.0
    station.view.in_flight = 6
    later = station.view_at(1e6).board
    assert later.running == 4 and later.waiting[0] == 2 and later.connections == 6


@pytest.mark.process
def test_the_first_questions_measure_the_link(tmp_path):
    async def run(server):
        async with running_agent(tmp_path, PreferSlots(0), {"large": server.url}) as agent:
            await asyncio.sleep(0.3)
            return agent.stations[0].view

    with fake_server() as server:
        view = asyncio.run(run(server))
    assert server.load_requests >= 2 and view.up_bps == view.down_bps > 1e4


@pytest.mark.process
def test_rates_settle_at_what_the_way_takes_beyond_the_server(tmp_path):
    with fake_server(delay_s=0.03) as large:
        large.reply = REPLY | {"queue_s": 0.008, "compute_s": 0.002}  # so 20 ms and a little for 12,000 bits
        ended, station = made(tmp_path, with_endpoint(base_url=f"{large.url}/v1"), tasks=30)
    travel_s = 4000 / station.view.up_bps + 8000 / station.view.down_bps
    assert 0.02 < travel_s < max(each.delay_s for each in ended)


def test_bss_that_are_alike_are_numbered():
    campus = load_scenario("campus")
    names = bs_names(campus)
    assert len(names) == campus.bs_count and len(set(names)) == len(names)
    several = campus.bss[0].model_copy(update={"count": 2, "positions": None})
    assert bs_names(campus.model_copy(update={"bss": (several,)})) == [f"{several.name}-1", f"{several.name}-2"]


def test_mistakes_name_the_field_and_the_fix(monkeypatch):
    observer = Observer(TESTBED, 0, 1.0)
    with pytest.raises(UserError, match="station = 'huge': testbed has large, small"):
        build_stations(observer, {"huge": "http://x"})
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(UserError, match="api_key_env = 'NO_SUCH_KEY'"):
        build_stations(Observer(with_endpoint(base_url="http://x/v1", api_key_env="NO_SUCH_KEY"), 0, 1.0), {})
    one = TESTBED.model_copy(update={"decision": TESTBED.decision.model_copy(update={"neighbours": 1})})
    with pytest.raises(UserError, match="2 given, but a UE of testbed considers 1"):
        build_stations(Observer(one, 0, 1.0), {"large": "http://x", "small": "http://y"})


def test_an_endpoint_is_no_other_world_unless_it_is_there(tmp_path):
    assert fingerprint(with_endpoint(base_url="http://x/v1")) != fingerprint(TESTBED)
    assert "endpoint" not in TESTBED.model_dump_json()


@pytest.mark.process
def test_the_slots_are_the_scenarios_order(tmp_path):
    async def run(large, small):
        async with running_agent(tmp_path, PreferSlots(SMALL), {"small": small.url, "large": large.url}) as agent:
            agent.observe(agent.observer.wish("idle", "bag", 0.0), ())
            return agent.observer.candidates[:, obs.NUMBER]

    with fake_server() as large, fake_server() as small:
        np.testing.assert_array_equal(asyncio.run(run(large, small)), [0, 1, 2])


@pytest.mark.parametrize("fields", [{"base_url": "http://x:y/v1"}, {"base_url": "http://x/v1", "metrics_url": "m"}])
def test_an_address_that_cannot_be_is_a_mistake(fields):
    metrics = {"load": "prometheus", "running_metric": "a", "waiting_metric": "b"}
    with pytest.raises(UserError, match="station = large"):
        build_stations(Observer(with_endpoint(**fields, **metrics), 0, 1.0), {})


def test_a_rates_average_is_of_seconds_per_bit():
    assert update_rate(100.0, 100.0) == pytest.approx(100.0)
    assert 1 / update_rate(100.0, 50.0) == pytest.approx(0.8 / 100 + 0.2 / 50)
    assert update_rate(100.0, 1e12) < 126  # one lucky measurement
