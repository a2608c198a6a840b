"""What fails at one place is done at another: every task ends once, in an image or an error that says why."""

import asyncio
import socket
import threading
import time

import pytest

from edgebrush.agent import agent as agents
from edgebrush.agent import clients
from edgebrush.agent.journal import Journal, Task
from edgebrush.errors import UserError
from tests.support.agents import LARGE, SMALL, PreferSlots, audit, generate_all, lines, running_agent, task
from tests.support.fakes import LOAD, PICTURE, REPLY, fake_server
from tests.support.models import Formula

pytestmark = pytest.mark.process


def policy():
    return PreferSlots(LARGE, SMALL, 0)


def test_a_task_is_made_where_the_policy_says(tmp_path):
    with fake_server() as large, fake_server() as small:
        urls = {"small": small.url, "large": large.url}
        [at_bs] = generate_all(tmp_path / "a", PreferSlots(SMALL, 0), urls, [task("t", seed=7)])
        [at_home] = generate_all(tmp_path / "b", PreferSlots(0), urls, [task("t")])
    assert (at_bs.place, at_bs.image, at_bs.steps, at_bs.attempts) == ("small", PICTURE, 2, 1)
    assert at_bs.energy_bs_j == 0.5 and at_bs.energy_ue_j > 0
    [(body, _)] = small.requests
    assert body["num_inference_steps"] == 2 and body["seed"] == 7 and body["service_class"] == 1 and not large.requests
    assert (
        at_home.place == "own"
        and at_home.image.startswith(b"\x89PNG")
        and at_home.energy_ue_j == pytest.approx(2 * 0.0116792 + 0.0000916496)
    )
    assert audit(tmp_path / "a", 1) == audit(tmp_path / "b", 1) == 1


def test_a_decision_is_logged_with_its_reason(tmp_path):
    with fake_server() as large:
        large.load = LOAD | {"running": 3, "steps_left": 20}
        generate_all(tmp_path, PreferSlots(LARGE), {"large": large.url}, [task("t")])
    [decided] = [line for line in lines(tmp_path) if line["event"] == "decided"]
    assert decided["place"] == "large" and set(decided["best"]) == {"own", "large"}
    assert decided["expected_cost"] >= decided["best"]["large"] > 0
    assert 0 < decided["expected_s"] < 5
    told = decided["loads"]["large"]
    assert told["running"] == 3 and told["steps_left"] == 20 and 0 <= told["age_s"] < 2
    assert [line["event"] for line in lines(tmp_path)] == ["accepted", "decided", "sent", "ended"]


@pytest.mark.parametrize(
    ("status", "reply", "said"),
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
def test_refusals_and_garbage_go_elsewhere(tmp_path, status, reply, said):
    with fake_server() as large, fake_server() as small:
        large.status, large.reply = status, reply
        [ended] = generate_all(tmp_path, policy(), {"large": large.url, "small": small.url}, [task("t")])
    assert ended.place == "small" and ended.attempts == 2 and len(large.requests) == len(small.requests) == 1
    [failed] = [line for line in lines(tmp_path) if line["event"] == "failed over"]
    assert failed["place"] == "large" and said in failed["reason"]
    assert audit(tmp_path, 1) == 1


def test_a_full_bs_is_left_alone_for_as_long_as_it_says(tmp_path):
    async def run(large, small):
        async with running_agent(tmp_path, policy(), {"large": large.url, "small": small.url}) as agent:
            await asyncio.gather(*(agent.generate(task(f"a{n}")) for n in range(3)))
            await asyncio.sleep(0.3)  # broadcasts come, but do not count
            await agent.generate(task("b"))
            agent.stations[0].retry_after_until = 0.0
            large.status, large.reply = 200, REPLY
            return await agent.generate(task("c"))

    with fake_server() as large, fake_server() as small:
        large.status, large.headers, large.reply = 429, {"retry-after": "7"}, {"error": {"message": "full"}}
        last = asyncio.run(run(large, small))
    assert last.place == "large" and len(large.requests) == 4 and len(small.requests) == 4
    assert audit(tmp_path, 5) == 5


def test_a_bs_that_hangs_up_or_is_not_there_is_avoided(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]  # closed below: refused
    with fake_server() as small:
        small.hang_up = True
        urls = {"large": f"http://127.0.0.1:{port}", "small": small.url}
        ended = generate_all(tmp_path, policy(), urls, [task(f"t{n}") for n in range(4)])
    assert [each.place for each in ended] == ["own"] * 4
    assert not any("large" in line.get("reason", "") for line in lines(tmp_path))  # known to be away: not even asked
    assert audit(tmp_path, 4) == 4


def test_a_slow_bs_costs_no_more_than_the_patience(tmp_path, monkeypatch):
    monkeypatch.setattr(agents, "TIMEOUT_MARGIN_S", 0.1)
    with fake_server(delay_s=60) as large, fake_server() as small:
        began = time.monotonic()
        [ended] = generate_all(tmp_path, PreferSlots(LARGE, 0), {"large": large.url, "small": small.url}, [task("t")])
        assert time.monotonic() - began < 30 and ended.place == "own"
    [failed] = [line for line in lines(tmp_path) if line["event"] == "failed over"]
    assert "no image after" in failed["reason"]


def test_before_a_deadline_there_is_time_for_the_own_device(tmp_path):
    async def run(large):
        async with running_agent(tmp_path, PreferSlots(LARGE, 0), {"large": large.url}) as agent:
            agent.device.step_s = 0.2  # so 8 steps, the middle of the grid, take 1.6 s
            return await agent.generate(task("t", deadline_s=2.4))

    with fake_server(delay_s=60) as large:
        ended = asyncio.run(run(large))
    assert ended.place == "own" and ended.image
    [failed] = [line for line in lines(tmp_path) if line["event"] == "failed over"]
    patience_s = float(failed["reason"].removeprefix("large: no image after ").removesuffix(" s"))
    assert 0.9 < patience_s <= 1.2  # half of what is left, which is more than what is left less the device's time


def test_past_its_deadline_a_task_ends_in_an_error(tmp_path):
    tasks = [task("t", deadline_s=1e-6), task("u")]
    late, fine = generate_all(tmp_path, PreferSlots(0), {}, tasks)
    assert late.image is None and late.missed and "deadline" in late.error and fine.image
    assert audit(tmp_path, 2) == 1


def test_what_no_place_can_do_ends_in_an_error_that_names_each(tmp_path):
    with fake_server() as large:
        large.status, large.reply = 422, {"error": {"message": "class = 'cat': unknown"}}
        ended, other = generate_all(
            tmp_path, PreferSlots(LARGE, 0), {"large": large.url}, [task("t", prompt="cat"), task("u", prompt="cat")]
        )
    assert ended.image is None and "large: status 422: class = 'cat'" in ended.error and "own device" in ended.error
    assert other.attempts == 2 and len(large.requests) == 2  # the task was wrong, not the BS
    assert audit(tmp_path, 2) == 0


def test_more_than_the_device_holds_is_an_error(tmp_path):
    free = threading.Event()

    class Busy(Formula):
        def predict(self, samples, times, conditions):
            free.wait(10)
            return super().predict(samples, times, conditions)

    async def run():
        async with running_agent(tmp_path, PreferSlots(0), {}, backend=Busy()) as agent:
            work = [asyncio.create_task(agent.generate(task(f"t{n}"))) for n in range(12)]
            await asyncio.sleep(0.2)
            busy = agent.device.queue()
            free.set()
            return busy, await asyncio.gather(*work)

    busy, ended = asyncio.run(run())
    assert busy.waiting == 8 and busy.busy_s > 0 and busy.work_s[0] == 0
    assert busy.work_s[1] == pytest.approx(8 * (0.0000061 + 2 * 0.000778614) / 0.04, rel=1e-3)
    assert sum(each.image is not None for each in ended) == 9  # one in service and queue_limit = 8
    assert all("no place is left" in each.error for each in ended if each.image is None)
    assert audit(tmp_path, 12) == 9


def test_the_same_task_is_made_once(tmp_path):
    async def run(large):
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": large.url}) as agent:
            first, second = await asyncio.gather(agent.generate(task("t")), agent.generate(task("t")))
            return first, second, await agent.generate(task("t"))

    with fake_server(delay_s=0.05) as large:
        first, second, later = asyncio.run(run(large))
    assert len(large.requests) == 1 and first.image == second.image == later.image == PICTURE
    assert audit(tmp_path, 1) == 1


def test_an_abandoned_task_ends_in_an_error_and_its_place_is_told(tmp_path):
    async def run(large):
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": large.url}) as agent:
            work = asyncio.create_task(agent.generate(task("t")))
            await asyncio.sleep(0.1)
            agent.cancel("t")
            ended = await work
            return ended, agent.stations[0].view.in_flight

    with fake_server(delay_s=60) as large:
        ended, in_flight = asyncio.run(run(large))
    assert ended.image is None and ended.error == agents.CLIENT_LEFT and in_flight == 0
    assert audit(tmp_path, 1) == 0


def test_a_stopped_agents_tasks_are_ended_by_the_next(tmp_path):
    async def stopped(large):
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": large.url}) as agent:
            for n in range(3):
                asyncio.create_task(agent.generate(task(f"t{n}")))  # noqa: RUF006
            await asyncio.sleep(0.2)

    async def next_one(large):
        async with running_agent(tmp_path, PreferSlots(LARGE), {"large": large.url}) as agent:
            return (await asyncio.gather(*(agent.generate(task(f"t{n}")) for n in range(3))))[1]

    with fake_server(delay_s=60) as large:
        asyncio.run(stopped(large))
        with open(tmp_path / "tasks.jsonl", "a") as file:
            file.write('{"task": "t9", "event": "acc')  # a line that the dying process left half written
        large.delay_s = 0.0
        ended = asyncio.run(next_one(large))
    assert ended.image == PICTURE
    assert audit(tmp_path, 3) == 3 and len(large.requests) == 6
    assert [line["event"] for line in lines(tmp_path)].count("resumed") == 3


def test_steps_of_the_wall_clock_change_nothing(tmp_path, monkeypatch):
    now, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + now[0])

    async def run(large):
        async with running_agent(tmp_path, PreferSlots(LARGE, 0), {"large": large.url}) as agent:
            work = [asyncio.create_task(agent.generate(task(f"t{n}", deadline_s=60.0))) for n in range(3)]
            for step_s in (-86_400.0, 86_400.0, 0.0):
                await asyncio.sleep(0.05)
                now[0] = step_s
            return await asyncio.gather(*work)

    with fake_server(delay_s=0.3) as large:
        ended = asyncio.run(run(large))
    assert all(each.image == PICTURE and 0.25 < each.delay_s < 30 and not each.missed for each in ended)


def test_a_bug_ends_the_task_not_the_agent(tmp_path):
    class Broken(PreferSlots):
        def choose(self, observations, draws):
            raise ZeroDivisionError("oh")

    [ended] = generate_all(tmp_path, Broken(0), {}, [task("t")])
    assert ended.error == "the agent failed: ZeroDivisionError: oh"
    assert audit(tmp_path, 1) == 0


def test_the_journal_forgets_the_oldest(tmp_path, monkeypatch):
    monkeypatch.setattr("edgebrush.agent.journal.KEPT_TASKS", 2)
    generate_all(tmp_path, PreferSlots(0), {}, [task(f"t{n}") for n in range(4)])
    journal = Journal(tmp_path)
    journal.accept(Task("new", "circle", "waiting", 1))
    journal.close()
    assert len(journal.results) == 2 and len(list((tmp_path / "images").iterdir())) == 2
    again = Journal(tmp_path)
    again.close()
    assert [each.id for each in again.unfinished] == ["new"]


def test_too_large_an_answer_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(clients, "MAX_REPLY_BYTES", 100)
    with fake_server() as large:
        [ended] = generate_all(tmp_path, PreferSlots(LARGE, 0), {"large": large.url}, [task("t")])
    assert ended.place == "own"


def test_two_agents_cannot_share_a_journal(tmp_path):
    first = Journal(tmp_path)
    with pytest.raises(UserError, match="another agent uses it"):
        Journal(tmp_path)
    first.close()
    Journal(tmp_path).close()
