"""The whole testbed: real processes and images, the live page in a real browser, and no process left behind."""

import csv
import json
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import yaml

from edgebrush.journal.reader import read_journal
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.episode_seeds import HELD_OUT_SEEDS
from edgebrush.testbed import faults
from edgebrush.testbed.episode import draw_episode
from edgebrush.testbed.faults import FAULTS, Fault, run_fault
from tests.support.browser import CHROMIUM, browser
from tests.support.processes import ENVIRONMENT, edgebrush_process

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A scenario file: two BSs, and three UEs with many requests and slow devices, so that most tasks go to the BSs."""
    content = load_scenario("testbed").model_dump(mode="json")
    content["ues"] = [ue | {"count": ue["count"] // 2, "speed": 0.25 * ue["speed"]} for ue in content["ues"]]
    content["arrivals"] = {"kind": "poisson", "rate_hz": 2.0}
    path = tmp_path_factory.mktemp("world") / "small-world.yaml"
    path.write_text(yaml.safe_dump(content | {"name": "small-world"}))
    return str(path)


def command(*arguments):
    return [sys.executable, "-m", "edgebrush.cli.main", "testbed", *arguments]


@pytest.mark.browser
def test_an_experiment_leaves_report_gallery_and_validation_and_is_shown_in_a_browser(world, tmp_path):
    out = tmp_path / "run"
    arguments = (world, "--seconds", "2", "--out", str(out), "--policies", "selfish-greedy,selfish-greedy")
    with edgebrush_process("testbed", *arguments, "--against-sim", "--live-port", "0") as (process, url):
        children = Children(process.pid)
        seen = look_at(url) if CHROMIUM else None
        assert process.wait(150) == 0, process.stdout.read()
    results = json.loads((out / "results.json").read_text())
    found = results["testbed"]["rounds"]
    assert set(found) == {"selfish-greedy", "selfish-greedy-2"}
    for each in found.values():
        assert each["images"] == each["asked"] > 5 and each["lost"] == each["twice"] == each["errors"] == 0
    assert results["policies"]["selfish-greedy"]["training_seeds"]
    assert (out / "report.html").read_text().count("These are measurements") == 1
    images = sum(each["images"] for each in found.values())
    assert (out / "gallery.html").read_text().count('<img src="data:image/png;base64,iVBOR') == images
    against = results["testbed"]["against_sim"]["selfish-greedy"]
    assert against["tasks"] == found["selfish-greedy"]["asked"]
    # On a busy machine delays may be longer, but not shorter. The computed work is the same.
    assert against["delay_s"]["mean"]["relative"] > -0.02
    assert against["energy_bs_j"]["mean"]["relative"] == pytest.approx(0.0, abs=0.1)
    closed = results["testbed"]["closed_loop"]
    assert set(closed["policies"]) == set(found) and set(closed["winner"]) == {"testbed", "simulator"}
    steps = closed["policies"]["selfish-greedy"]["steps"]
    assert steps["testbed"] > 0 and steps["simulator"] > 0 and steps["noise"] is None  # one block of arrivals
    assert (out / "closed-loop.png").is_file() and "Testbed and simulator" in (out / "report.html").read_text()
    assert all(0 <= each["late_share"] <= 1 and each["denoising_overrun"] > -0.2 for each in found.values())
    with open(out / "against-sim.csv") as file:
        assert len(list(csv.DictReader(file))) == images
    assert children.all_gone()
    if CHROMIUM:
        assert seen["policy"] == "policy: selfish-greedy" and seen["phones"] == 3 and seen["stations"] == 2
        assert seen["images"] >= 3 and seen["widths"] == [28]


def look_at(url):
    """What a browser shows after three images."""
    with browser() as page:
        page.open(url)
        end = time.monotonic() + 30
        while (page.value("document.querySelectorAll('#images img').length") or 0) < 3:
            assert time.monotonic() < end, "no images"
            time.sleep(0.1)
        return {
            "policy": page.value("document.getElementById('policy').textContent"),
            "phones": page.value("document.querySelectorAll('.ue').length"),
            "stations": page.value("document.querySelectorAll('.bs').length"),
            "images": page.value("document.querySelectorAll('#images img').length"),
            "widths": page.value(
                "[...new Set([...document.querySelectorAll('#images img')].map(i => i.naturalWidth))]"
            ),
        }


class Children:
    """All child processes that a process has had since the construction."""

    def __init__(self, parent):
        self.parent, self.seen = psutil.Process(parent), set()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        try:
            while self.parent.is_running():
                self.seen.update(self.parent.children(recursive=True))
                time.sleep(0.05)
        except psutil.NoSuchProcess:
            pass

    def all_gone(self):
        return len(self.seen) >= 5 and not psutil.wait_procs(self.seen, timeout=5)[1]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_experiment_leaves_no_process_and_no_folder(signum, world, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(world, "--seconds", "60", "--policies", "selfish-greedy", "--out", str(out)),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    children, end = Children(process.pid), time.monotonic() + 60
    while not any(line.get("ok") for folder in tmp_path.glob("*/rounds/*/ue-*/") for line in read_journal(folder)):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signum)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 130 and "interrupted" in output and "Traceback" not in output
    assert children.all_gone() and list(tmp_path.iterdir()) == []


def test_a_rule_without_parameters_is_an_error(world, tmp_path):
    """The rule is not tuned for this scenario; the error comes before any process starts."""
    arguments = command(world, "--policies", "priced-greedy", "--out", str(tmp_path / "run"))
    ended = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert ended.returncode == 2 and "its parameters are not tuned for small-world" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_task_ends_once_under_all_faults(world, tmp_path, monkeypatch):
    """All faults one after the other: short queues and shifted clocks from the start, then the others."""
    monkeypatch.setattr(faults, "OUTAGE_S", 1.0)
    monkeypatch.setattr(faults, "INJECT_AFTER", 0.0)
    injected = ["freeze-bs", "client-leaves", "clock-step", "cut-link", "kill-bs", "restart-ue"]

    def prepare(testbed):
        FAULTS["full-queue"].prepare(testbed)
        FAULTS["clock-step"].prepare(testbed)

    async def inject(testbed):
        return sum([await FAULTS[name].inject(testbed) for name in injected])

    monkeypatch.setitem(FAULTS, "all", Fault("all faults", inject, prepare))
    episode = draw_episode(load_scenario(world), HELD_OUT_SEEDS + 1, 8.0)
    found = run_fault("all", world, episode, "selfish-greedy", tmp_path)
    assert found.requested == len(episode.tasks) + faults.LEAVING_CLIENTS
    assert found.images + found.errors == found.requested and found.lost == found.twice == 0, found
    assert found.errors > 0 and found.images > 15 and found.failed_over > 0
    days = {line["time"][:10] for folder in tmp_path.glob("ue-*/") for line in read_journal(folder)}
    assert len(days) >= 2, "the clocks were not shifted"
