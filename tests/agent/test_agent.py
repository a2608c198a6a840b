"""Failures at one place lead to another: every task ends once, with an image or an error that states the reason."""

import asyncio
import socket
import threading
import time

import pytest

from edgebrush.agent import agent as agents
from edgebrush.agent import health
from edgebrush.clients import client as clients
from tests.support.agents import (
    LARGE,
    SMALL,
    PreferSlots,
    audit_journal,
    generate_all,
    journal_lines,
    make_task,
    running_agent,
)
from tests.support.fakes import LOAD, PNG, FakeStation, fake_server
from tests.support.models import Formula
from tests.support.virtual_time import START_S, run_virtual

HOUR_S = 3600.0


def prefer_large():
    return PreferSlots(LARGE, SMALL, 0)


def events(folder, name):
    return [line for line in journal_lines(folder) if line["event"] == name]


def test_the_policy_chooses_the_place(tmp_path):
    large, small = FakeStation(), FakeStation()
    stations = {"small": small, "large": large}
    [at_bs] = generate_all(tmp_path / "a", PreferSlots(SMALL, 0), stations, [make_task("t", seed=7)])
    [at_home] = generate_all(tmp_path / "b", PreferSlots(0), stations, [make_task("t")])
    assert (at_bs.place, at_bs.image, at_bs.steps, at_bs.attempts) == ("small", PNG, 2, 1)
    assert at_bs.energy_bs_j == 0.5 and at_bs.energy_ue_j > 0
    [(body, _)] = small.requests
    assert body["num_inference_steps"] == 2 and body["seed"] == 7 and body["service_class"] == 1 and not large.requests
    assert at_home.place == "own" and at_home.image.startswith(b"\x89PNG")
    assert at_home.energy_ue_j == pytest.approx(2 * 0.0116792 + 0.0000916496)
    assert audit_journal(tmp_path / "a", 1) == audit_journal(tmp_path / "b", 1) == 1


def test_a_decision_is_logged_with_its_reason(tmp_path):
    large = FakeStation(delay_s=0.7)
    large.load = LOAD | {"running": 3, "steps_left": 20}
    generate_all(tmp_path, PreferSlots(LARGE), {"large": large}, [make_task("t")])
    [decided] = events(tmp_path, "decided")
    assert decided["place"] == "large" and set(decided["best"]) == {"own", "large"}
    assert decided["expected_cost"] >= decided["best"]["large"] > 0
    assert 0 < decided["expected_s"] < 5
    load = decided["loads"]["large"]
    assert load == {"running": 3, "steps_left": 20, "waiting": [0, 0], "age_s": 0.0, "away": False}
    assert [line["event"] for line in journal_lines(tmp_path)] == ["accepted", "decided", "sent", "ended"]


@pytest.mark.parametrize(
    ("status", "reply", "reason"),
    [
        (429, {"error": {"message": "the queue is full"}}, "status 429: the queue is full"),
        (503, b"", "status 503"),
        (500, b"<html>", "status 500: <html>"),
        (200, b"no json", "not JSON"),
        (200, b"[1, 2]", "not a JSON object"),
        (200, b"[" * 100_000, "not JSON"),
        (200, {"data": []}, "no image"),
        (200, {"data": [{"url": "http://x/y.png"}]}, "no image"),
        (200, {"data": [{"b64_json": "AAAA"}]}, "neither PNG"),
        (200, {"data": [{"b64_json": "not base64!"}]}, "no image"),
    ],
)
def test_after_an_error_or_garbage_the_next_place_is_tried(tmp_path, status, reply, reason):
    large, small = FakeStation(), FakeStation()
    large.status, large.reply = status, reply
    [result] = generate_all(tmp_path, prefer_large(), {"large": large, "small": small}, [make_task("t")])
    assert result.place == "small" and result.attempts == 2 and len(large.requests) == len(small.requests) == 1
    [failed] = events(tmp_path, "failed over")
    assert failed["place"] == "large" and reason in failed["reason"]
    assert audit_journal(tmp_path, 1) == 1


def test_an_unavailable_bs_is_avoided_until_it_answers_a_load_request(tmp_path):
    large, small = FakeStation(), FakeStation()
    large.hang_up = True

    async def run():
        async with running_agent(tmp_path, prefer_large(), {"large": large, "small": small}) as agent:
            places = [(await agent.generate(make_task(f"t{n}"))).place for n in range(2)]
            large.hang_up = False
            while agent.stations[0].unavailable:
                await asyncio.sleep(0.1)
            waited_s = agent.clock() - START_S
            return [*places, (await agent.generate(make_task("later"))).place], waited_s

    places, waited_s = run_virtual(run())
    assert places == ["small", "small", "large"] and 0 < waited_s < health.AVOIDED_S
    assert audit_journal(tmp_path, 3) == 3


def test_an_answer_to_an_older_load_request_does_not_end_the_pause(tmp_path):
    class SlowPages(FakeStation):
        page_delay_s = 0.0

        async def page_delay(self):
            await asyncio.sleep(self.page_delay_s)

    large = SlowPages()
    large.hang_up = True

    async def run():
        async with running_agent(tmp_path, PreferSlots(LARGE, 0), {"large": large}) as agent:
            large.page_delay_s = 2.0
            await asyncio.sleep(1.5)  # a load request is on the way
            await agent.generate(make_task("t"))
            requested = large.load_requests
            while large.load_requests == requested:  # until it is answered, and the next one is sent
                await asyncio.sleep(0.01)
            return agent.stations[0].unavailable

    assert run_virtual(run())


@pytest.mark.process
def test_a_bs_that_hangs_up_or_is_not_there_is_avoided(tmp_path):
    """Over real sockets."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]  # closed below: connections are refused
    with fake_server() as small:
        small.hang_up = True
        stations = {"large": f"http://127.0.0.1:{port}", "small": small.url}
        results = generate_all(tmp_path, prefer_large(), stations, [make_task(f"t{n}") for n in range(4)], asyncio.run)
    assert [each.place for each in results] == ["own"] * 4
    assert not any("large" in line.get("reason", "") for line in journal_lines(tmp_path))  # unavailable: never tried
    assert audit_journal(tmp_path, 4) == 4


def test_a_slow_bs_is_given_up_after_the_timeout(tmp_path, monkeypatch):
    monkeypatch.setattr(agents, "TIMEOUT_MARGIN_S", 2.0)
    stations = {"large": FakeStation(delay_s=HOUR_S), "small": FakeStation()}
    [result] = generate_all(tmp_path, PreferSlots(LARGE, 0), stations, [make_task("t")])
    [decided, _] = events(tmp_path, "decided")
    timeout_s = 3 * decided["expected_s"] + 2
    assert result.place == "own" and result.delay_s == pytest.approx(timeout_s, abs=0.001)
    [failed] = events(tmp_path, "failed over")
    assert failed["reason"] == f"large: no image after {timeout_s:.3g} s"


def test_before_a_deadline_the_own_device_has_enough_time(tmp_path):
    async def run():
        async with running_agent(tmp_path, PreferSlots(LARGE, 0), {"large": FakeStation(delay_s=HOUR_S)}) as agent:
            agent.device.step_s = 0.2  # so 8 steps, the middle of the grid, take 1.6 s
            return await agent.generate(make_task("t", deadline_s=2.4))

    result = run_virtual(run())
    assert result.place == "own" and result.image and not result.missed
    [failed] = events(tmp_path, "failed over")
    # Half of the remaining time, which is more than the remaining time less the device's.
    assert failed["reason"] == "large: no image after 1.2 s" and result.delay_s == pytest.approx(1.2)


def test_past_its_deadline_a_task_ends_with_an_error(tmp_path):
    tasks = [make_task("t", deadline_s=1e-6), make_task("u")]
    late, fine = generate_all(tmp_path, PreferSlots(0), {}, tasks, run=asyncio.run)
    assert late.image is None and late.missed and "deadline" in late.error and fine.image
    assert audit_journal(tmp_path, 2) == 1


class Blocked(Formula):
    """The formula, whose evaluations wait until ``free`` is set."""

    def __init__(self):
        self.free = threading.Event()

    def predict(self, samples, times, conditions):
        assert self.free.wait(30)
        return super().predict(samples, times, conditions)


def test_more_tasks_than_the_device_holds_are_errors(tmp_path):
    backend = Blocked()

    async def run():
        async with running_agent(tmp_path, PreferSlots(0), {}, backend=backend) as agent:
            tasks = [asyncio.create_task(agent.generate(make_task(f"t{n}"))) for n in range(12)]
            while not agent.device.engine.running or sum(task.done() for task in tasks) < 3:
                await asyncio.sleep(0)
            busy = agent.device.queue()
            backend.free.set()
            return busy, await asyncio.gather(*tasks)

    busy, results = run_virtual(run())
    assert busy.waiting == 8 and busy.busy_s > 0 and busy.work_s[0] == 0
    assert busy.work_s[1] == pytest.approx(8 * (0.0000061 + 2 * 0.000778614) / 0.04, rel=1e-3)
    assert sum(each.image is not None for each in results) == 9  # one in service and queue_limit = 8
    full = [each for each in results if each.image is None]
    assert all("no place is left" in each.error and each.kind == "overload" for each in full)
    assert all(each.retry_after_s > 0 for each in full)
    assert audit_journal(tmp_path, 12) == 9


def test_a_task_is_generated_once(tmp_path):
    large = FakeStation(delay_s=0.05)

    async def run():
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": large}) as agent:
            first, second = await asyncio.gather(agent.generate(make_task("t")), agent.generate(make_task("t")))
            return first, second, await agent.generate(make_task("t"))

    first, second, later = run_virtual(run())
    assert len(large.requests) == 1 and first.image == second.image == later.image == PNG
    assert audit_journal(tmp_path, 1) == 1


def test_a_cancelled_task_ends_with_an_error_and_frees_its_place(tmp_path):
    async def run():
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": FakeStation(delay_s=HOUR_S)}) as agent:
            waiting = asyncio.create_task(agent.generate(make_task("t")))
            await asyncio.sleep(0.1)
            in_flight = agent.stations[0].view.in_flight
            agent.cancel("t")
            return await waiting, in_flight, agent.stations[0].view.in_flight

    result, before, after = run_virtual(run())
    assert result.image is None and result.error == agents.CLIENT_LEFT and (before, after) == (1, 0)
    assert audit_journal(tmp_path, 1) == 0


def test_the_next_agent_ends_the_tasks_of_a_stopped_one(tmp_path):
    large = FakeStation(delay_s=HOUR_S)

    async def stopped():
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": large}) as agent:
            for n in range(3):
                asyncio.create_task(agent.generate(make_task(f"t{n}")))  # noqa: RUF006
            while len(large.requests) < 3:
                await asyncio.sleep(0.1)

    async def resumed():
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": large}) as agent:
            return (await asyncio.gather(*(agent.generate(make_task(f"t{n}")) for n in range(3))))[1]

    run_virtual(stopped())
    large.delay_s = 0.0
    result = run_virtual(resumed())
    assert result.image == PNG
    assert audit_journal(tmp_path, 3) == 3 and len(large.requests) == 6
    assert len(events(tmp_path, "resumed")) == 3


def test_steps_of_the_wall_clock_change_nothing(tmp_path, monkeypatch):
    now, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + now[0])

    async def run():
        async with running_agent(tmp_path, PreferSlots(LARGE, 0), {"large": FakeStation(delay_s=0.3)}) as agent:
            tasks = [asyncio.create_task(agent.generate(make_task(f"t{n}", deadline_s=60.0))) for n in range(3)]
            for step_s in (-86_400.0, 86_400.0, 0.0):
                await asyncio.sleep(0.05)
                now[0] = step_s
            return await asyncio.gather(*tasks)

    for result in run_virtual(run()):
        assert result.image == PNG and result.delay_s == pytest.approx(0.3) and not result.missed


def test_a_bug_ends_the_task_not_the_agent(tmp_path):
    class Broken(PreferSlots):
        def choose(self, observations, draws):
            raise ZeroDivisionError("oh")

    [result] = generate_all(tmp_path, Broken(0), {}, [make_task("t")])
    assert result.error == "the agent failed: ZeroDivisionError: oh"
    assert audit_journal(tmp_path, 1) == 0


def test_a_reply_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(clients, "MAX_IMAGE_BYTES", 100)
    [result] = generate_all(tmp_path, PreferSlots(LARGE, 0), {"large": FakeStation()}, [make_task("t")])
    assert result.place == "own"
