"""Agents to test: the testbed's first UE, on a formula in place of a network, with a policy that says where."""

import asyncio
import json
from contextlib import asynccontextmanager

from edgebrush.agent.agent import Agent
from edgebrush.agent.device import Device
from edgebrush.agent.journal import TASKS, Journal, Task
from edgebrush.agent.observer import Observer
from edgebrush.agent.stations import build_stations
from edgebrush.scenario.load import load_scenario
from tests.support.models import Formula

TESTBED = load_scenario("testbed")
LARGE, SMALL = 1, 2  # the slots of its BSs


class PreferSlots:
    """A policy with an order of slots that it likes; ``seen`` are the observations that it was shown."""

    name = "prefers"

    def __init__(self, *slots, steps=2):
        self.slots, self.steps, self.seen, self.layout = slots, steps, [], None

    def choose(self, observations, draws):
        self.seen.append(observations[0])
        _, candidates, _ = self.layout.split(observations[0])
        slot = next((slot for slot in self.slots if candidates[slot, 0] > 0), self.slots[0])
        return [self.layout.action_space.encode(slot, TESTBED.decision.step_grid.index(self.steps), 1)]


def make_agent(folder, policy, urls, backend=None, scenario=TESTBED):
    observer = Observer(scenario, 0, 0.5)
    policy.layout = observer.layout
    device = Device(backend or Formula(), 30, 8, *observer.own_parts_s, 2)
    return Agent(observer, policy, build_stations(observer, urls), device, Journal(folder), lambda: 0.5)


@asynccontextmanager
async def running_agent(*arguments, **options):
    agent = make_agent(*arguments, **options)
    await agent.start()
    try:
        yield agent
    finally:
        await agent.stop()


def task(name, **fields):
    return Task(**{"id": name, "prompt": "circle", "request": "waiting", "seed": 1, **fields})


def generate_all(folder, policy, urls, tasks, **options):
    """How the tasks end that an agent gets all at once."""

    async def run():
        async with running_agent(folder, policy, urls, **options) as agent:
            return await asyncio.gather(*(agent.generate(each) for each in tasks))

    return asyncio.run(run())


def lines(folder):
    return [json.loads(line) for line in (folder / TASKS).read_text().splitlines()]


def audit(folder, count):
    """Every accepted task ended exactly once, in an image that is there or an error that says why."""
    written = lines(folder)
    accepted = [line["task"] for line in written if line["event"] == "accepted"]
    ended = [line["task"] for line in written if line["event"] == "ended"]
    assert len(accepted) == count and len(set(accepted)) == count
    assert sorted(ended) == sorted(accepted)
    for line in written:
        if line["event"] == "ended":
            image = folder / "images" / f"{line['task']}.png"
            assert image.is_file() == line["ok"] and bool(line["ended"]["error"]) != line["ok"]
    return sum(line["event"] == "ended" and line["ok"] for line in written)
