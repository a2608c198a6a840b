"""Agents to test: the testbed's first UE, with a formula instead of a network, and a policy with fixed preferences."""

import asyncio
import time
from contextlib import asynccontextmanager

from edgebrush.agent.agent import Agent
from edgebrush.agent.device import Device
from edgebrush.agent.endpoints import build_stations
from edgebrush.agent.observer import Observer
from edgebrush.journal.journal import Journal
from edgebrush.journal.reader import read_image, read_journal
from edgebrush.journal.records import Task
from edgebrush.scenario.load import load_scenario
from tests.support.fakes import FakeNetwork
from tests.support.models import Formula
from tests.support.virtual_time import run_virtual, virtual_clock

TESTBED = load_scenario("testbed")
LARGE, SMALL = 1, 2  # the slots of its BSs


class PreferSlots:
    """A policy that chooses the first present slot of a list; ``seen`` collects the observations."""

    name = "prefer-slots"

    def __init__(self, *slots, steps=2):
        self.slots, self.steps, self.seen, self.layout = slots, steps, [], None

    def choose(self, observations, draws):
        self.seen.append(observations[0])
        _, candidates, _ = self.layout.split(observations[0])
        slot = next((slot for slot in self.slots if candidates[slot, 0] > 0), self.slots[0])
        return [self.layout.action_space.encode(slot, TESTBED.decision.step_grid.index(self.steps), 1)]


def make_agent(folder, policy, stations, backend=None, scenario=TESTBED, transport=None, token_env=None):
    """An agent whose BSs are addresses, or fake stations on an in-memory network. It uses a virtual loop's clock.

    ``transport`` replaces the network; ``token_env`` names the variable with the BSs' token.
    """
    fakes = {name: each for name, each in stations.items() if not isinstance(each, str)}
    urls = {name: f"http://{name}" if name in fakes else each for name, each in stations.items()}
    for bs in scenario.bss:
        if bs.endpoint:  # which has the address
            urls.pop(bs.name, None)
    observer = Observer(scenario, 0, 0.5)
    if isinstance(policy, PreferSlots):
        policy.layout = observer.layout
    device = Device(backend or Formula(), 30, 8, *observer.own_parts_s, 2)
    journal = Journal(folder)
    clock = virtual_clock(device.engine, journal) or time.monotonic
    network = FakeNetwork(fakes) if fakes else transport
    remote = build_stations(observer, urls, network, clock, token_env=token_env)
    return Agent(observer, policy, remote, device, journal, lambda: 0.5, clock)


@asynccontextmanager
async def running_agent(*arguments, **options):
    agent = make_agent(*arguments, **options)
    await agent.start()
    try:
        yield agent
    finally:
        await agent.stop()


def make_task(name, **fields):
    return Task(**{"id": name, "prompt": "circle", "request": "waiting", "seed": 1, **fields})


def generate_all(folder, policy, stations, tasks, run=run_virtual, **options):
    """The results of tasks that an agent gets at once."""

    async def generate():
        async with running_agent(folder, policy, stations, **options) as agent:
            return await asyncio.gather(*(agent.generate(each) for each in tasks))

    return run(generate())


journal_lines = read_journal


def audit_journal(folder, count):
    """Assert that ``count`` tasks were accepted, and that each ended once, with an image or an error.

    Returns the number of images.
    """
    lines = read_journal(folder)
    accepted = [line["task"] for line in lines if line["event"] == "accepted"]
    ended = [line["task"] for line in lines if line["event"] == "ended"]
    assert len(accepted) == count and len(set(accepted)) == count
    assert sorted(ended) == sorted(accepted)
    for line in lines:
        if line["event"] == "ended":
            image = read_image(folder, line["task"])
            assert bool(image) == line["ok"] and bool(line["ended"]["error"]) != line["ok"]
    return sum(line["event"] == "ended" and line["ok"] for line in lines)
