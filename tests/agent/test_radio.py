"""The seconds, and so the joules, that a UE is charged for its radio are those of the transfer alone."""

import asyncio

import pytest

from edgebrush.agent.endpoints import build_stations
from edgebrush.agent.observer import Observer
from edgebrush.clients.offload import Offload
from edgebrush.testbed.links import Band
from tests.support.agents import LARGE, TESTBED, PreferSlots, make_task, running_agent
from tests.support.fakes import LOAD, REPLY, FakeNetwork, FakeStation
from tests.support.virtual_time import run_virtual

LINK_BPS = 1.5e6  # in each direction, shared by the requests in transit
BITS_UP, BITS_DOWN, POLL_BITS = 4e3, 8e3, 8 * (400 + 230)
OVERHEAD_S = 0.03  # of a busy server for each request, beyond the queueing and computing that it reports


class BusyStation(FakeStation):
    """Two images at a time. ``radio_s`` maps the seeds of images to the seconds of their transfers."""

    def __init__(self):
        super().__init__()
        self.up, self.down = (Band(lambda ue, senders: LINK_BPS / senders) for _ in range(2))
        self.places, self.radio_s = asyncio.Semaphore(2), {}

    async def page_delay(self):
        await asyncio.sleep(POLL_BITS / LINK_BPS)
        self.load = LOAD

    async def make_image(self):
        now, (body, _) = asyncio.get_running_loop().time, self.requests[-1]
        sent_at = now()
        await self.up.transfer(0, BITS_UP)
        arrived_at = now()
        async with self.places:
            started_at = now()
            await asyncio.sleep(0.2)
        made_at = now()
        await asyncio.sleep(OVERHEAD_S)
        answered_at = now()
        await self.down.transfer(0, BITS_DOWN)
        self.radio_s[body["seed"]] = arrived_at - sent_at + now() - answered_at
        self.reply = REPLY | {"queue_s": started_at - arrived_at, "compute_s": made_at - started_at}
        self.headers = {"server-timing": f"db;dur=5, app;dur={1e3 * (answered_at - arrived_at):.3f}"}


@pytest.mark.parametrize("at_once", [1, 8])
def test_the_radio_is_charged_for_the_transfer_alone(at_once):
    """Also if a busy server takes long beyond what it reports as queueing and computing."""

    async def run():
        network, clock = FakeNetwork({"large": server}), asyncio.get_running_loop().time
        [station] = build_stations(Observer(TESTBED, 0, 1.0), {"large": "http://large"}, network, clock)
        await station.poll_load()
        offloads = [Offload(make_task(f"t{n}", seed=n), 2, 1, BITS_UP, BITS_DOWN, None) for n in range(at_once)]
        return await asyncio.gather(*(station.generate(each, 60.0) for each in offloads))

    server = BusyStation()
    for seed, result in enumerate(run_virtual(run())):
        assert result.up_s + result.down_s == pytest.approx(server.radio_s[seed], rel=0.02)
    if at_once == 1:
        assert server.radio_s[0] == pytest.approx((BITS_UP + BITS_DOWN) / LINK_BPS)


def test_the_joules_are_those_of_bits_and_rates(tmp_path):
    async def run():
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": BusyStation()}) as agent:
            context = agent.observer.task_context("waiting", "circle", 0.0)
            assert (context.bits_in, context.bits_out) == (BITS_UP, BITS_DOWN)
            results = [await agent.generate(make_task(f"t{n}")) for n in range(10)]
            return results, agent.observer.device

    results, power = run_virtual(run())
    radio_j = (power["transmit_w"] * BITS_UP + power["receive_w"] * BITS_DOWN) / LINK_BPS
    expected_j = radio_j + power["standby_w"] * (0.2 + OVERHEAD_S)
    assert [each.energy_ue_j for each in results] == pytest.approx([expected_j] * 10, rel=0.02)


@pytest.mark.parametrize("header", ["app;dur=1e9", "app;dur=nan", "app;dur=" + "9" * 400, "app", "app;dur=900000"])
def test_a_station_that_claims_too_much_time_is_not_believed(header):
    class Liar(BusyStation):
        async def make_image(self):
            await super().make_image()
            self.headers = {"server-timing": header}

    async def run():
        network, clock = FakeNetwork({"large": Liar()}), asyncio.get_running_loop().time
        [station] = build_stations(Observer(TESTBED, 0, 1.0), {"large": "http://large"}, network, clock)
        await station.poll_load()
        return await station.generate(Offload(make_task("t"), 2, 1, BITS_UP, BITS_DOWN, None), 60.0)

    result = run_virtual(run())
    assert result.up_s + result.down_s == pytest.approx((BITS_UP + BITS_DOWN) / LINK_BPS + OVERHEAD_S)
