"""A BS that answers badly is dropped, is tried again at a bounded rate, and returns; pauses that a BS asks for."""

import asyncio

import pytest

from edgebrush.agent.health import TRIAL_INTERVAL_S
from edgebrush.agent.stations import MAX_BACKOFF_S
from tests.support.agents import LARGE, SMALL, PreferSlots, audit_journal, make_task, running_agent
from tests.support.fakes import LOAD, REPLY, FakeStation
from tests.support.virtual_time import run_virtual

TASKS, INTERVAL_S = 25, 0.4
FULL = LOAD | {"running": 4, "steps_left": 9, "waiting": [0, 3], "waiting_steps": [0, 24], "connections": 7}
REFUSED = 429, {"error": {"message": "full"}}


def run(folder, large, scenes, slots=(LARGE, SMALL, 0)):
    """The result of ``scenes(agent)``, with an agent that prefers the first BS."""

    async def start():
        async with running_agent(folder, PreferSlots(*slots), {"large": large, "small": FakeStation()}) as agent:
            return await scenes(agent)

    return run_virtual(start())


async def calm(agent, name, count=TASKS):
    """The places of tasks, one every ``INTERVAL_S``."""
    places = []
    for n in range(count):
        places.append((await agent.generate(make_task(f"{name}-{n}"))).place)
        await asyncio.sleep(INTERVAL_S)
    return places


def break_images(large, how):
    if how == "hang up":
        large.hang_up = True
    else:
        large.status, large.reply = {
            "500": (500, b""),
            "401": (401, b""),
            "404": (404, b""),
            "400 to a request that the own model accepts": (400, {"error": {"message": "response_format"}}),
            "garbage": (200, b"no image"),
        }[how]


def mend_images(large):
    large.hang_up, large.status, large.reply = False, 200, REPLY


@pytest.mark.parametrize("status", [500, 401, 404])
def test_a_bs_that_answers_load_requests_with_errors_is_not_tried_first(tmp_path, status):
    large = FakeStation()
    large.load_status = large.status = status
    places = run(tmp_path, large, lambda agent: calm(agent, "t"))
    assert set(places) == {"small"} and len(large.requests) <= TASKS * INTERVAL_S / TRIAL_INTERVAL_S
    assert audit_journal(tmp_path, TASKS) == TASKS


@pytest.mark.parametrize(
    "how", ["500", "401", "404", "400 to a request that the own model accepts", "garbage", "hang up"]
)
def test_a_bs_that_serves_loads_but_no_image_is_not_tried_first(tmp_path, how):
    large = FakeStation()
    break_images(large, how)
    places = run(tmp_path, large, lambda agent: calm(agent, "t"))
    assert set(places) == {"small"} and 3 <= len(large.requests) <= 3 + TASKS * INTERVAL_S / TRIAL_INTERVAL_S


def test_a_bs_whose_images_work_again_is_used_again_within_10_s(tmp_path):
    large = FakeStation()
    break_images(large, "500")

    async def scenes(agent):
        await calm(agent, "broken")
        mend_images(large)
        await asyncio.sleep(10.0)
        return await calm(agent, "mended")

    assert run(tmp_path, large, scenes) == ["large"] * TASKS


def test_one_image_at_a_time_tries_a_dropped_bs(tmp_path):
    large = FakeStation(delay_s=0.2)
    break_images(large, "500")

    async def scenes(agent):
        await calm(agent, "broken", 10)
        await asyncio.sleep(TRIAL_INTERVAL_S)
        before = len(large.requests)
        await asyncio.gather(*(agent.generate(make_task(f"burst-{n}")) for n in range(8)))
        in_burst = len(large.requests) - before
        mend_images(large)
        await asyncio.sleep(TRIAL_INTERVAL_S)
        bursts = []
        for each in range(3):
            ended = await asyncio.gather(*(agent.generate(make_task(f"burst-{each}-{n}")) for n in range(4)))
            bursts.append(sum(result.place == "large" for result in ended))
        return in_burst, bursts

    assert run(tmp_path, large, scenes) == (1, [1, 1, 4])  # two successes bring it back


def test_a_cancelled_trial_does_not_block_the_next_one(tmp_path):
    large = FakeStation(delay_s=60.0)
    break_images(large, "500")

    async def scenes(agent):
        health = agent.stations[0].health
        for _ in range(3):
            health.image_failed()
        await asyncio.sleep(TRIAL_INTERVAL_S)
        waiting = asyncio.create_task(agent.generate(make_task("t")))
        await asyncio.sleep(0.1)
        during = health.available
        agent.cancel("t")
        await waiting
        return during, health.available

    assert run(tmp_path, large, scenes) == (False, True)


def test_a_bs_without_its_load_page_is_used_once_two_images_were_made(tmp_path):
    large = FakeStation()
    large.load = None  # 404

    async def scenes(agent):
        await asyncio.sleep(30.0)
        return await calm(agent, "t")

    assert run(tmp_path, large, scenes) == ["large"] * TASKS


def test_a_bs_that_is_gone_is_polled_less_often_and_used_again_within_10_s(tmp_path):
    large = FakeStation()
    polls = 0

    class Counting(FakeStation):
        @property
        def reachable(self):
            nonlocal polls
            polls += not self.is_there
            return self.is_there

        @reachable.setter
        def reachable(self, value):
            self.is_there = value

    large = Counting()

    async def scenes(agent):
        before = await calm(agent, "before", 3)
        large.reachable = False
        gone = await calm(agent, "gone", 3)
        await asyncio.sleep(100.0)
        counted = polls
        large.reachable = True
        await asyncio.sleep(10.0)
        return [*before, *gone], counted, await calm(agent, "back", 3)

    places, counted, back = run(tmp_path, large, scenes)
    assert places == ["large"] * 3 + ["small"] * 3 and back == ["large"] * 3
    assert 100 / MAX_BACKOFF_S - 1 <= counted <= 100 / MAX_BACKOFF_S + 6


def test_one_failure_in_passing_does_not_drop_a_bs(tmp_path):
    large = FakeStation()

    async def scenes(agent):
        for n in range(6):
            break_images(large, "500")
            await agent.generate(make_task(f"failed-{n}"))
            mend_images(large)
            await asyncio.sleep(1.5)  # until a load request is answered
            await agent.generate(make_task(f"fine-{n}"))
        return agent.stations[0].health.dropped

    assert not run(tmp_path, large, scenes) and len(large.requests) == 12


@pytest.mark.parametrize(("deadline_s", "failures"), [(0.05, 0), (1.5, 1)])
def test_a_deadline_that_leaves_a_bs_too_little_time_is_not_its_fault(tmp_path, deadline_s, failures):
    """Otherwise a few impatient requests would drop a BS that works."""
    large = FakeStation(delay_s=3600.0)

    async def scenes(agent):
        await agent.generate(make_task("t", deadline_s=deadline_s))
        return agent.stations[0].health.failures

    assert run(tmp_path, large, scenes, slots=(LARGE, 0)) == failures and len(large.requests) == 1


async def refused_and_later(agent, large, wait_s):
    """The places of a task that the BS refuses for 20 s, and of one that comes ``wait_s`` later."""
    large.status, large.reply, large.headers = *REFUSED, {"retry-after": "20"}
    refused = await agent.generate(make_task("refused"))
    mend_images(large)
    await asyncio.sleep(wait_s)
    return [refused.place, (await agent.generate(make_task("later"))).place]


@pytest.mark.parametrize(
    ("load", "wait_s", "place"), [(FULL, 19.9, "small"), (FULL, 20.1, "large"), (LOAD, 1.5, "large")]
)
def test_retry_after_counts_until_the_bs_reports_room(tmp_path, load, wait_s, place):
    large = FakeStation()
    large.load = load
    assert run(tmp_path, large, lambda agent: refused_and_later(agent, large, wait_s)) == ["small", place]


def test_a_bs_that_reports_room_and_refuses_again_is_tried_at_a_bounded_rate(tmp_path):
    large = FakeStation()
    large.status, large.reply = REFUSED
    large.headers = {"retry-after": "20"}
    places = run(tmp_path, large, lambda agent: calm(agent, "t"))
    assert set(places) == {"small"} and 3 <= len(large.requests) <= 2 + TASKS * INTERVAL_S / TRIAL_INTERVAL_S


@pytest.mark.parametrize(("value", "pause_s"), [("0", 1), ("-3", 1), ("nan", 5), ("9" * 400, 60), ("soon", 5)])
def test_retry_after_is_bounded(tmp_path, value, pause_s):
    large = FakeStation()
    large.load = FULL

    async def scenes(agent):
        large.status, large.reply, large.headers = *REFUSED, {"retry-after": value}
        start = agent.clock()
        await agent.generate(make_task("t"))
        return agent.stations[0].health.paused_until - start

    assert run(tmp_path, large, scenes) == pytest.approx(pause_s)
