"""Closed loops of an agent and two idle BSs: after a disturbance, tasks go to the BSs again within 10 s."""

import asyncio
import math
import sys
import time
from functools import partial

import pytest

from edgebrush.agent.agent import OWN
from edgebrush.agent.endpoints import build_stations
from edgebrush.agent.observer import Observer
from edgebrush.clients.offload import Offload
from edgebrush.policies.load import load_policy
from edgebrush.scenario.schema import Endpoint
from edgebrush.testbed.links import Band
from tests.support.agents import TESTBED, PreferSlots, make_task, running_agent
from tests.support.fakes import LOAD, REPLY, FakeStation, fake_server
from tests.support.virtual_time import run_virtual

LINK_BPS = 1.5e6  # of a BS's uplink and of its downlink, as in the testbed
BITS_UP, BITS_DOWN, POLL_BITS = 4e3, 8e3, 5e3
CALM_TASKS, CALM_INTERVAL_S = 12, 0.4  # the tasks of a calm period
RECOVERY_S = 10.0
ERROR = 500, {"error": {"message": "out of memory"}}, {}
GARBAGE = 200, b"<html>", {}
REFUSAL = 429, {"error": {"message": "full"}}, {"retry-after": "3600"}


class VirtualStation(FakeStation):
    """A BS with a queue, at the end of a link whose bandwidth the requests in transit share."""

    def __init__(self, batch_limit=4, step_s=0.0917, queue_limit=32):
        super().__init__()
        self.step_s, self.queue_limit = step_s, queue_limit
        self.waiting = self.running = 0
        self.intact = asyncio.Event()
        self.intact.set()
        self.slowdown = 1.0  # of the link
        self.failure = None  # what every image request gets instead of its image: status, reply and headers
        self.extra_s = 0.0  # of the next answer, not reported
        self.up, self.down = (Band(lambda ue, senders: LINK_BPS / self.slowdown / senders) for _ in range(2))
        self.places = asyncio.Semaphore(batch_limit)

    async def page_delay(self):
        await self.intact.wait()
        await asyncio.sleep(POLL_BITS * self.slowdown / LINK_BPS)
        self.load = LOAD | {
            "running": self.running,
            "steps_left": 4 * self.running,
            "waiting": [0, self.waiting],
            "waiting_steps": [0, 8 * self.waiting],
            "connections": self.running + self.waiting,
        }

    def image_response(self):
        return self.failure or super().image_response()

    async def make_image(self):
        body, _ = self.requests[-1]
        compute_s = self.step_s * body.get("steps", body.get("num_inference_steps"))
        await self.intact.wait()
        await self.up.transfer(0, BITS_UP)
        if self.waiting >= self.queue_limit:
            self.status, self.reply = 429, {"error": {"message": "full"}}
            self.headers = {"retry-after": "2"}
            return
        queue_s = await self.serve(compute_s)
        extra_s, self.extra_s = self.extra_s, 0.0
        await asyncio.sleep(extra_s)
        await self.down.transfer(0, BITS_DOWN)
        await self.intact.wait()
        self.status, self.headers = 200, {}
        self.reply = REPLY | {"queue_s": queue_s, "compute_s": compute_s}

    async def serve(self, compute_s):
        start = asyncio.get_running_loop().time()
        self.waiting += 1
        try:
            await self.places.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        queue_s = asyncio.get_running_loop().time() - start
        try:
            await asyncio.sleep(compute_s)
        finally:
            self.running -= 1
            self.places.release()
        return queue_s


@pytest.fixture(autouse=True)
def real_timeouts(long_timeouts, monkeypatch):
    """The clock is virtual, so no machine is too slow for them."""
    monkeypatch.setattr("edgebrush.agent.stations.POLL_TIMEOUT_S", 2.0)
    monkeypatch.setattr("edgebrush.agent.agent.TIMEOUT_MARGIN_S", 2.0)


async def burst(agent, stations, count):
    await asyncio.gather(*(agent.generate(make_task(f"burst-{n}")) for n in range(count)))


async def slow_answer(agent, stations):
    for station in stations:
        station.extra_s = 2.0
    await burst(agent, stations, 4)


async def submit(agent, name, seconds):
    """Four tasks per second, without waiting for their results."""
    for n in range(int(4 * seconds)):
        asyncio.create_task(agent.generate(make_task(f"{name}-{n}")))  # noqa: RUF006
        await asyncio.sleep(0.25)


async def outage(agent, stations, seconds):
    """Nothing passes; what is on its way then continues."""
    await submit(agent, "early", 1)
    for station in stations:
        station.intact.clear()
    await submit(agent, "out", seconds)
    for station in stations:
        station.intact.set()


async def slow_link(agent, stations):
    for station in stations:
        station.slowdown = 50.0
    await submit(agent, "slow", 10)
    await asyncio.sleep(10.0)
    for station in stations:
        station.slowdown = 1.0


async def failing(agent, stations, failure):
    """Every image request gets an error, also while nothing is wrong with the load."""
    for station in stations:
        station.failure = failure
    await submit(agent, "failing", 15)
    for station in stations:
        station.failure = None


async def failing_loads(agent, stations):
    for station in stations:
        station.load_status, station.failure = 500, ERROR
    await submit(agent, "failing", 15)
    for station in stations:
        station.load_status, station.failure = 200, None


async def gone(agent, stations):
    """Connections are refused, as while a process restarts."""
    for station in stations:
        station.reachable = False
    await submit(agent, "gone", 15)
    for station in stations:
        station.reachable = True


async def calm(agent, name):
    """How many of some tasks, one after the other, are generated at a BS."""
    at_stations = 0
    for n in range(CALM_TASKS):
        result = await agent.generate(make_task(f"{name}-{n}"))
        at_stations += result.place != OWN
        await asyncio.sleep(CALM_INTERVAL_S)
    return at_stations


DISTURBANCES = {
    **{f"burst of {count}": partial(burst, count=count) for count in (20, 40, 80, 200)},
    "slow answer": slow_answer,
    "short outage": partial(outage, seconds=1.5),
    "long outage": partial(outage, seconds=10),
    "slow link": slow_link,
    "images fail": partial(failing, failure=ERROR),
    "images are garbage": partial(failing, failure=GARBAGE),
    "images and loads fail": failing_loads,
    "stations are gone": gone,
    "stations refuse for an hour": partial(failing, failure=REFUSAL),
}
NEEDS_REPORTS = {"stations refuse for an hour"}  # that show room


@pytest.mark.parametrize("interval_s", [0.2, math.inf])
@pytest.mark.parametrize("name", DISTURBANCES)
def test_after_a_disturbance_idle_stations_are_used_again(tmp_path, name, interval_s):
    """With ``inf``, the scenario's BSs report their load once, so only the links are measured again."""
    if interval_s == math.inf and name in NEEDS_REPORTS:
        pytest.skip("without load reports, a pause is kept to its end")
    scenario = TESTBED.model_copy(update={"broadcast_interval_s": interval_s})

    async def run():
        stations = {"large": VirtualStation(), "small": VirtualStation(2, 0.153)}
        policy = load_policy("selfish-greedy", TESTBED)
        async with running_agent(tmp_path, policy, stations, scenario=scenario) as agent:
            before = await calm(agent, "before")
            await DISTURBANCES[name](agent, list(stations.values()))
            await asyncio.sleep(RECOVERY_S)
            return before, await calm(agent, "after")

    before, after = run_virtual(run())
    print(f"{name}, interval {interval_s} s: images at stations {before} before, {after} after, of {CALM_TASKS}")
    assert before == after == CALM_TASKS


@pytest.mark.parametrize("name", ["calm", "slow answer", "burst of 20"])
def test_a_server_without_load_reports_is_used_when_it_is_idle(tmp_path, name):
    endpoint = Endpoint(base_url="http://large/v1", kind="sglang")
    large = TESTBED.bss[0].model_copy(update={"endpoint": endpoint})
    scenario = TESTBED.model_copy(update={"bss": (large, TESTBED.bss[1])})

    async def run():
        server = VirtualStation()
        policy = load_policy("selfish-greedy", TESTBED)
        async with running_agent(tmp_path, policy, {"large": server}, scenario=scenario) as agent:
            before = await calm(agent, "before")
            if name != "calm":
                await DISTURBANCES[name](agent, [server])
            await asyncio.sleep(RECOVERY_S)
            return before, await calm(agent, "after")

    before, after = run_virtual(run())
    print(f"{name}, no load reports: images at the server {before} before, {after} after, of {CALM_TASKS}")
    assert before == after == CALM_TASKS


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports when a socket last received data")
def test_a_busy_event_loop_does_not_count_as_transfer():
    """Over a real socket, whose response waits until the loop reads it."""

    async def generate(url):
        [station] = build_stations(Observer(TESTBED, 0, 1.0), {"large": url})
        offload = Offload(make_task("t"), 2, 1, BITS_UP, BITS_DOWN, None)
        image = asyncio.create_task(station.generate(offload, timeout_s=60.0))
        await asyncio.sleep(0)
        time.sleep(1.0)  # before the connection exists
        while not server.requests:
            await asyncio.sleep(0.001)
        time.sleep(1.0)  # while the response arrives
        result = await image
        await station.close()
        return result

    with fake_server(delay_s=0.1) as server:
        result = asyncio.run(generate(server.url))
    assert 0.09 < result.up_s + result.down_s < 0.6


def test_a_load_request_raises_the_rates_of_an_unused_link_and_never_lowers_them(tmp_path):
    async def run():
        async with running_agent(tmp_path, PreferSlots(1), {"large": large}) as agent:
            view, rates = agent.stations[0].view, []
            large.extra_s = 0.5
            await agent.generate(make_task("t"))
            for slowdown in (1.0, 50.0):
                rates.append(view.up_bps)
                large.slowdown = slowdown
                await asyncio.sleep(1.9 if slowdown == 1.0 else 5.0)
                rates.append(view.up_bps)
                await asyncio.sleep(0.5)
            return rates

    large = VirtualStation()
    after_image, within_2_s, after_2_s, on_a_slow_link = run_virtual(run())
    assert after_image == within_2_s < LINK_BPS / 5 and after_2_s == on_a_slow_link > LINK_BPS / 2
