"""The agent runs end to end with each kind of server: images, loads reported or inferred, failures, overload."""

import asyncio
import io

import pytest
from PIL import Image

from edgebrush.agent.health import FAILURES_TO_DROP, TRIAL_INTERVAL_S
from edgebrush.clients.dialects import DIALECTS
from edgebrush.policies.load import load_policy
from edgebrush.scenario.schema import Endpoint
from tests.support.agents import LARGE, SMALL, TESTBED, PreferSlots, audit_journal, make_task, running_agent
from tests.support.dialect_servers import DEFAULT_STEPS, SERVERS, VllmOmniServer
from tests.support.fakes import FakeStation
from tests.support.recordings import KINDS
from tests.support.virtual_time import run_virtual

STEPS = 4
REPORTS_NONE = [kind for kind in KINDS if not DIALECTS[kind].reports_load]


def scenario_of(kind):
    """The testbed, whose first BS is a server of this kind."""
    large = TESTBED.bss[0].model_copy(update={"endpoint": Endpoint(base_url="http://large/v1", kind=kind)})
    return TESTBED.model_copy(update={"bss": (large, TESTBED.bss[1])})


def run(folder, server, scenes, slots=(LARGE, SMALL, 0), policy=None):
    """The result of ``scenes(agent)``, with an agent that prefers this server, beside a station."""

    async def start():
        stations = {"large": server, "small": FakeStation()}
        chosen = policy or PreferSlots(*slots, steps=STEPS)
        async with running_agent(folder, chosen, stations, scenario=scenario_of(server.kind)) as agent:
            return await scenes(agent)

    return run_virtual(start())


def view_of(agent):
    """What the agent believes of the server now."""
    return agent.stations[0].view_at(agent.clock()).load


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_become_images_as_the_server_takes_them(tmp_path, kind, caplog):
    server = SERVERS[kind]()
    task = make_task("t", prompt="circle", negative="blurry", seed=5)
    result = run(tmp_path, server, lambda agent: agent.generate(task))
    [order] = server.orders
    taken = DIALECTS[kind].fields
    assert result.place == "large" and result.attempts == 1 and audit_journal(tmp_path, 1) == 1
    assert Image.open(io.BytesIO(result.image)).size == (28, 28)
    assert order.prompt == "circle" and order.steps == (STEPS if "steps" in taken else DEFAULT_STEPS)
    assert order.seed == (5 if "seed" in taken else None)
    assert ("large: a server of kind openai takes no steps" in caplog.text) == (kind == "openai")


@pytest.mark.parametrize("kind", KINDS)
def test_a_busy_server_is_not_taken_for_idle(tmp_path, kind):
    """Six tasks of this UE are there; the server makes one at a time, each in 0.2 s or more."""
    server = SERVERS[kind]()
    server.limit = 10

    async def scenes(agent):
        tasks = [asyncio.create_task(agent.generate(make_task(f"t{n}"))) for n in range(6)]
        await asyncio.sleep(0.15)
        early = view_of(agent)
        await asyncio.gather(*tasks)
        return early

    load = run(tmp_path, server, scenes)
    if DIALECTS[kind].reports_load:  # of the last report, from before the tasks; they count as in flight
        assert load.connections == 0
    else:
        assert load.running + sum(load.waiting) == 6


@pytest.mark.parametrize("kind", ["edgebrush", "vllm-omni"])
def test_a_reported_load_is_believed(tmp_path, kind):
    server = SERVERS[kind](step_s=1.0)

    async def scenes(agent):
        tasks = [asyncio.create_task(agent.generate(make_task(f"t{n}"))) for n in range(3)]
        await asyncio.sleep(1.2)
        load, infers = view_of(agent), agent.stations[0].infers_load
        for each in tasks:
            each.cancel()
        return load.running, sum(load.waiting), infers

    assert run(tmp_path, server, scenes) == (1, 2, False)


@pytest.mark.parametrize("names", ["metrics", "metrics-2026-05", "metrics-stages"])
def test_vllm_omni_without_log_stats_is_found_out(tmp_path, names, caplog):
    """It reports 0 while this UE's task is there, so its load is inferred, also once the task has ended."""
    server = VllmOmniServer(step_s=1.0)
    server.log_stats, server.names = False, names

    async def scenes(agent):
        before = agent.stations[0].infers_load
        task = asyncio.create_task(agent.generate(make_task("t")))
        await asyncio.sleep(2.5)
        during = view_of(agent)
        await task
        await asyncio.sleep(3.0)
        after = agent.stations[0].infers_load
        server.log_stats, server.open, server.running = True, 3, 1
        await asyncio.sleep(1.5)
        return before, during.running, after, agent.stations[0].infers_load

    assert run(tmp_path, server, scenes) == (False, 1, True, False)
    assert caplog.text.count("start it with --log-stats") == 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "edgebrush"])  # which has its page
def test_a_page_that_is_missing_is_no_idle_server(tmp_path, kind, caplog):
    """404 at `/metrics` or `/v1/models`: images are made there, and the load is inferred from them."""

    class WithoutPages(SERVERS[kind]):
        def page_response(self, path):
            return 404, b"", {}

    server = WithoutPages(step_s=0.5)

    async def scenes(agent):
        first, second = [await agent.generate(make_task(f"first-{n}")) for n in range(2)]
        load = view_of(agent)
        return first.place, second.place, agent.stations[0].infers_load, load.running, agent.stations[0].health.dropped

    first, second, infers, running, dropped = run(tmp_path, server, scenes)
    assert first == second == "large" and infers and not dropped
    assert running > 0.9  # an image took far longer than the profile says
    assert ("its load cannot be read" in caplog.text) == (kind == "vllm-omni")


@pytest.mark.parametrize("kind", KINDS)
def test_three_failures_drop_a_server_and_two_successes_bring_it_back(tmp_path, kind):
    server = SERVERS[kind](step_s=0.005)  # so that no load query counts as the second success

    async def tasks(agent, name, count):
        return [(await agent.generate(make_task(f"{name}-{n}"))).place for n in range(count)]

    async def scenes(agent):
        health = agent.stations[0].health
        server.status, server.reply = 500, b"Internal Server Error"
        places = []
        while not health.dropped:
            places += await tasks(agent, f"broken-{len(places)}", 1)
            await asyncio.sleep(1.0)
        sent = len(server.requests)
        server.status = 200
        await asyncio.sleep(TRIAL_INTERVAL_S)
        back = []
        while health.dropped:
            back += await tasks(agent, f"back-{len(back)}", 1)
        return places, sent, back

    places, sent, back = run(tmp_path, server, scenes)
    assert set(places) == {"small"} and sent == FAILURES_TO_DROP
    assert back == ["large", "large"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_gone_is_dropped_by_its_pages_alone(tmp_path, kind):
    server = SERVERS[kind]()

    async def scenes(agent):
        health = agent.stations[0].health
        server.reachable = False
        await asyncio.sleep(10.0)
        gone = health.dropped
        server.reachable = True
        await asyncio.sleep(10.0)
        return gone, health.dropped

    assert run(tmp_path, server, scenes) == (True, False) and not server.requests


@pytest.mark.parametrize("kind", ["edgebrush", "localai", "openai"])
def test_a_full_server_is_left_alone_for_its_pause(tmp_path, kind):
    server = SERVERS[kind]()
    server.limit = 0

    async def scenes(agent):
        first = await agent.generate(make_task("t0"))
        paused_s = agent.stations[0].health.paused_until - agent.clock()
        return first.place, paused_s

    place, paused_s = run(tmp_path, server, scenes)
    assert place == "small" and paused_s == pytest.approx(1.0 if kind == "edgebrush" else 5.0, abs=0.1)


@pytest.mark.parametrize("kind", REPORTS_NONE)
def test_other_places_are_used_while_a_silent_server_is_slow(tmp_path, kind):
    """Its load is inferred from round trips that are a hundred times as long as the profile says."""
    server = SERVERS[kind](step_s=1.0)
    policy = load_policy("selfish-greedy", TESTBED)

    async def scenes(agent):
        places = []
        for n in range(12):
            places.append((await agent.generate(make_task(f"t{n}"))).place)
            await asyncio.sleep(0.2)
        return places

    places = run(tmp_path, server, scenes, policy=policy)
    assert places.count("large") <= 3
