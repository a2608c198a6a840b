"""The world of a soak: two agents and three stations, in which an idle station is always the better choice."""

from __future__ import annotations

from pathlib import Path

import yaml

from edgebrush.scenario.load import load_scenario
from edgebrush.testbed.episode import draw_episode
from edgebrush.testbed.testbed import Testbed

POLICY = "selfish-greedy"  # the cheapest place by what the agent believes; it has no parameters to tune for this world


def make_testbed(folder: Path) -> Testbed:
    """The testbed of a soak; its files go to ``folder``. The agents are not paced: own devices are fast in truth."""
    source = str(write_scenario(folder))
    testbed = Testbed(source, draw_episode(load_scenario(source), 0, 10.0), POLICY, folder)
    for ue in testbed.ues:
        ue.arguments.remove("--paced")
    return testbed


def write_scenario(folder: Path) -> Path:
    """Write the scenario file into a folder.

    A station takes about 25 ms for an image of one step, nearly all of it asleep. An agent believes that its own device
    takes 1.6 s, so that it uses an idle station even if the machine is busy and each exchange takes long.
    """
    content = load_scenario("testbed").model_dump(mode="json")
    content |= {"name": "soak", "title": "Two agents, three stations, faults", "area_m": [30, 30]}
    content["arrivals"] = {"kind": "poisson", "rate_hz": 1.0}
    content["decision"] |= {"step_grid": [1], "neighbours": 3, "classes": 1}
    content["requests"] = [content["requests"][0] | {"name": "soak", "share": 1.0}]
    content["ues"] = [content["ues"][0] | {"name": "phone", "count": 2, "speed": 0.0005, "queue_limit": 200}]
    content["bss"] = [
        content["bss"][0] | {"name": "station", "count": 3, "speed": 0.2, "batch_limit": 2, "bandwidth_hz": 20e6}
    ]
    path = folder / "soak.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
