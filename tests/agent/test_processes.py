"""An agent and base stations as real processes under faults: every task ends once, in an image or an error."""

import asyncio
import base64
import signal
import subprocess
import sys

import httpx2
import openai
import psutil
import pytest

from edgebrush.agent import agent as agents
from edgebrush.diffusion.onnx import load_model
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
from tests.support.fakes import fake_server
from tests.support.processes import ENVIRONMENT, edgebrush_process, fake_process
from tests.support.serving import until

pytestmark = pytest.mark.process

IMAGES = "/v1/images/generations"
HEAVY = {
    "jax",
    "jaxlib",
    "numba",
    "llvmlite",
    "torch",
    "equinox",
    "optax",
    "cma",
    "scipy",
    "matplotlib",
}
TRACES = "opentelemetry.sdk"  # FastAPI imports OpenTelemetry's API where it is installed
LEARNERS = ("edgebrush.learning", "edgebrush.evaluation.", "edgebrush.sim.simulator")  # a package alone is light


def test_kill_a_bs_with_tasks_in_it(tmp_path):
    async def run(process, urls):
        async with running_agent(tmp_path, PreferSlots(LARGE, SMALL), urls) as agent:
            work = [asyncio.create_task(agent.generate(make_task(f"t{n}"))) for n in range(5)]
            while agent.stations[0].view.in_flight < 5:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            process.send_signal(signal.SIGKILL)
            ended = await asyncio.gather(*work)
            return ended, await agent.generate(make_task("later"))

    with fake_process(30) as (process, url), fake_server() as small:
        ended, later = asyncio.run(run(process, {"large": url, "small": small.url}))
    assert [each.place for each in ended] == ["small"] * 5 and later.place == "small" and later.attempts == 1
    assert audit_journal(tmp_path, 6) == 6 and len(small.requests) == 6


def test_freeze_a_bs_and_thaw_it(tmp_path, monkeypatch):
    monkeypatch.setattr(agents, "TIMEOUT_MARGIN_S", 1.5)
    monkeypatch.setattr("edgebrush.agent.stations.POLL_TIMEOUT_S", 1.0)

    async def run(process, urls):
        async with running_agent(tmp_path, PreferSlots(LARGE, SMALL, 0), urls) as agent:
            process.send_signal(signal.SIGSTOP)
            frozen = await asyncio.gather(*(agent.generate(make_task(f"t{n}")) for n in range(3)))
            process.send_signal(signal.SIGCONT)
            while agent.stations[0].unavailable:
                await asyncio.sleep(0.05)
            return frozen, await agent.generate(make_task("thawed"))

    with fake_process(0.0) as (process, url), fake_server() as small:
        frozen, thawed = asyncio.run(run(process, {"large": url, "small": small.url}))
    assert "large" not in {each.place for each in frozen} and thawed.place == "large"
    assert audit_journal(tmp_path, 4) == 4


def test_a_ue_restarts_mid_work_and_serves_real_images(tmp_path):
    """Kill an agent with tasks at a real BS; a new one ends them from the journal and takes new ones."""
    journal = tmp_path / "journal"
    with edgebrush_process("serve", "--name", "large", "--port", "0", "--speed", "0.01") as (_, bs):
        arguments = ("ue", "testbed", "--policy", "nearest-bs", "--port", "0", "--journal", str(journal), "--station")
        with edgebrush_process(*arguments, f"large={bs}") as (process, url), httpx2.Client(timeout=0.5) as client:
            for n in range(3):
                with pytest.raises(httpx2.ReadTimeout):
                    client.post(url + IMAGES, json={"prompt": "bag"}, headers={"idempotency-key": f"k{n}"}, timeout=0.1)
            process.kill()
        open_before = {line["task"] for line in journal_lines(journal)} - ended_in(journal)
        assert len(open_before) == 3
        with edgebrush_process(*arguments, f"large={bs}") as (process, url):
            own = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
            reply = own.images.generate(prompt="sneaker", size="28x28", response_format="b64_json")
            assert base64.b64decode(reply.data[0].b64_json).startswith(b"\x89PNG") and reply.served_by == "large"
            again = httpx2.post(
                url + IMAGES, json={"prompt": "bag"}, headers={"idempotency-key": "k1"}, timeout=60
            ).json()
            assert again["data"][0]["b64_json"]
            until(lambda: open_before <= ended_in(journal), 60)
            assert psutil.Process(process.pid).memory_info().rss < 150e6
    assert audit_journal(journal, 4) == 4


def ended_in(journal):
    return {line["task"] for line in journal_lines(journal) if line["event"] == "ended"}


def test_fill_a_real_bs_queue(tmp_path):
    limits = ("--batch-limit", "1", "--queue-limit", "1", "--speed", "0.05")
    with edgebrush_process("serve", "--port", "0", *limits) as (_, bs):
        tasks = [make_task(f"t{n}", prompt="bag") for n in range(9)]
        ended = generate_all(
            tmp_path, PreferSlots(LARGE, 0, steps=10), {"large": bs}, tasks, asyncio.run, backend=load_model("light")
        )
    places = [each.place for each in ended if each.image]
    reasons = " ".join(line["reason"] for line in journal_lines(tmp_path) if line["event"] == "failed over")
    assert "status 429" in reasons and set(places) == {"large", "own"}
    assert audit_journal(tmp_path, 9) == 9


def test_the_agents_process_imports_nothing_heavy():
    code = (
        "import sys, edgebrush.cli.ue, edgebrush.agent.agent, edgebrush.agent.app, edgebrush.api.server;"
        "from edgebrush.agent.build import build_agent; from edgebrush.scenario.load import load_scenario;"
        "import tempfile, pathlib;"
        "agent = build_agent(load_scenario('testbed'), 1, 'priced-greedy', {}, pathlib.Path(tempfile.mkdtemp()));"
        "agent.decide(agent.observer.task_context('idle', 'bag', 0.0));"
        "modules = [*sys.modules]; import psutil; print(psutil.Process().memory_info().rss, *modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    resident, *modules = done.stdout.split()
    loaded = set(modules)
    assert int(resident) < 150e6  # the light model included
    assert "edgebrush.agent.agent" in loaded
    assert not {name.split(".")[0] for name in loaded} & HEAVY
    assert not [name for name in loaded if name.startswith((*LEARNERS, TRACES))]
