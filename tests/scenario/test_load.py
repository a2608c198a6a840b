"""Scenario files: any content gives a scenario or an error of one line."""

import copy
from collections.abc import Iterator

import pytest
import yaml

from edgebrush.errors import UserError
from edgebrush.profiles.catalogue import CATALOGUE
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.parameters import check_usable
from edgebrush.scenario.presets import PRESETS
from edgebrush.scenario.schema import Scenario

ODD = [
    None,
    "",
    "x",
    True,
    0,
    -1,
    1.5,
    1e308,
    10**400,
    float("nan"),
    float("inf"),
    [],
    [[]],
    {},
    {"x": 1},
    [None],
]


def places(content, way=()) -> Iterator[tuple]:
    """Every path to something in nested mappings and lists."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*way, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*way, key))


def replaced(content, way, value):
    content = copy.deepcopy(content)
    place = content
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = value
    return content


@pytest.mark.parametrize("preset", ["campus-gentd26", "pair"])
def test_any_odd_value_anywhere_gives_a_scenario_or_an_error_of_one_line(preset, tmp_path, monkeypatch):
    content = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.touch()
    given = {}
    monkeypatch.setattr("edgebrush.scenario.load.yaml.load", lambda text, loader: given["content"])
    refused = 0
    for way in places(content):
        for odd in ODD:
            given["content"] = replaced(content, way, odd)
            try:
                check_usable(load_scenario(path))
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 500
                refused += 1
    assert refused > 1000


def test_anchors_and_merges_may_be_used(tmp_path):
    text = (PRESETS / "pair.yaml").read_text()
    start = text.index("bss:")
    merged = """bss:
  - &large {name: large, profile: sdxl-a100, speed: 2.0, batch_limit: 2, queue_limit: 4, connection_limit: 8}
  - {<<: *large, name: small, speed: 1.0, batch_limit: 1}
"""
    (tmp_path / "merged.yaml").write_text(text[:start] + merged)
    assert load_scenario(tmp_path / "merged.yaml").bss == load_scenario("pair").bss


def test_a_profile_next_to_the_scenario_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    (tmp_path / "my.json").write_text((CATALOGUE / "sdxl-a100.json").read_text())
    text = (PRESETS / "pair.yaml").read_text().replace("profile: sdxl-a100", "profile: my.json")
    (tmp_path / "mine.yaml").write_text(text)
    assert [bs.profile for bs in load_scenario(tmp_path / "mine.yaml").bss] == ["my.json", "my.json"]


def scenario(**fields) -> Scenario:
    request = dict(name="any", share=1, delay_weight=1, energy_weight=1, quality_weight=1, bits_in=1e4, bits_out=1e6)
    ues = [
        dict(name="eager", count=2, rate_factor=3, profile="sd15-snapdragon-8-elite"),
        dict(name="calm", count=4, profile="sd15-snapdragon-8-elite"),
    ]
    bss = [dict(name="b", profile="sdxl-a100")]
    return Scenario(name="mine", title="mine", requests=[request], ues=ues, bss=bss, **fields)


def test_task_rate_counts_images_rate_factors_and_bursts_but_a_trace_states_tasks():
    """2 x 3 + 4 = 10 UEs' worth of 0.1 requests/s of 1.5 images; bursts' mean (3 x 0.5 + 2.5) / 4 = 1."""
    images = {1: 0.75, 3: 0.25}
    poisson = dict(kind="poisson", rate_hz=0.1)
    bursty = dict(kind="bursty", rate_hz=0.1, calm=0.5, burst=2.5, calm_s=30, burst_s=10)
    trace = dict(kind="trace", rate_hz=0.1, file="trace.csv")
    assert scenario(arrivals=poisson, images_per_request=images).task_rate_hz == pytest.approx(1.5)
    assert scenario(arrivals=bursty, images_per_request=images).task_rate_hz == pytest.approx(1.5)
    assert scenario(arrivals=dict(bursty, calm=0), images_per_request=images).task_rate_hz < 1.0
    assert scenario(arrivals=trace, images_per_request=images).task_rate_hz == pytest.approx(1.0)
