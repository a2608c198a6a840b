"""The live page's monitor: what it reads from growing journals."""

import asyncio
from types import SimpleNamespace

import httpx2
import pytest

from edgebrush.scenario.load import load_scenario
from edgebrush.testbed import live
from edgebrush.testbed.live import LivePage, Monitor
from tests.support.journals import append_lines


@pytest.fixture
def testbed(tmp_path, monkeypatch):
    """A testbed of two UEs at 2 s of its episode, without processes."""
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: 102.0))
    tasks = [SimpleNamespace(at_s=at_s) for at_s in (0.5, 1.5, 2.5)]
    scenario = load_scenario("testbed")
    scenario = scenario.model_copy(update={"ues": (scenario.ues[0].model_copy(update={"count": 2}),)})
    episode = SimpleNamespace(scenario=scenario, tasks=tasks, seconds=4.0, battery_levels=(0.9, 0.8))
    journals = [tmp_path / "ue-1", tmp_path / "ue-2"]
    return SimpleNamespace(episode=episode, journals=journals, names=["large", "small"], start_s=100.0)


def test_the_monitor_follows_journals_line_by_line(testbed):
    monitor, (first, second) = Monitor(testbed, "a-rule"), testbed.journals
    append_lines(first, [{"task": "a", "event": "accepted"}, {"task": "b", "event": "accepted"}])
    append_lines(first, [{"task": "b", "event": "decided", "place": "small", "battery": 0.7}])
    assert monitor.read_images() == []
    state = monitor.state()
    assert (state["policy"], state["requested"], state["total"], state["images"]) == ("a-rule", 2, 3, 0)
    assert [ue["tasks"] for ue in state["ues"]] == [[-1, 2], []] and [ue["battery"] for ue in state["ues"]] == [
        0.7,
        0.8,
    ]
    result = {"place": "small", "steps": 6, "delay_s": 1.5, "energy_ue_j": 0.25, "energy_bs_j": 0.5}
    done = {"task": "b", "event": "ended", "ok": True, "ended": result}
    append_lines(first, [done], ["b"])
    (image,) = monitor.read_images()
    assert (image["ue"], image["place"], image["energy_j"], image["png"]) == (0, 2, 0.75, "cG5n")
    assert [ue["tasks"] for ue in monitor.state()["ues"]] == [[-1], []]
    append_lines(first, [{"task": "a", "event": "ended", "ok": False}])
    append_lines(second, [{"task": "c", "event": "accepted"}])
    assert monitor.read_images() == []
    state = monitor.state()
    assert (state["images"], state["errors"], state["delay_s"]) == (1, 1, 1.5)
    assert [ue["tasks"] for ue in state["ues"]] == [[], [-1]]
    assert [(bs["name"], bs["images"], bs["load"]) for bs in state["bss"]] == [("large", 0, None), ("small", 1, None)]


@pytest.mark.process
def test_the_live_page_is_guarded():
    """Its server checks Host as all do, and its policy lets no script run but its own."""

    async def visit():
        async with LivePage(0) as page, httpx2.AsyncClient(base_url=page.url) as client:
            return await client.get("/"), await client.get("/events", headers={"host": "evil.example"})

    page, refused = asyncio.run(visit())
    policy = page.headers["content-security-policy"]
    assert page.text.count("<script>") == policy.count("'sha256-") == 1 and "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff" and "server" not in page.headers
    assert refused.status_code == 421 and refused.json()["error"]["code"] == "misdirected_request"
