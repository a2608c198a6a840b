"""Edits of YAML texts: the values change, all other text stays."""

import pytest
import yaml

from edgebrush.fitting.yaml_edit import edit
from edgebrush.scenario.presets import PRESETS, preset_names

TEXT = """\
# a head
name: old   # stays
arrivals:
  kind: bursty   # goes
  rate_hz: 2
requests:
  - {name: a, share: 0.3,
     bits: 1}
  - name: b
    share: 0.7   # stays
tail: 1
"""


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("name",), "new", "# was\nname: new   # stays\n"),
        (("arrivals", "rate_hz"), 2.5, "  # was\n  rate_hz: 2.5\nrequests"),
        (("requests", 0, "share"), 0.4, "  # was\n  - {name: a, share: 0.4,\n     bits: 1}\n"),
        (("requests", 0, "bits"), 2, "share: 0.3,\n     # was\n     bits: 2}\n"),
        (("requests", 1, "share"), 0.6, "    # was\n    share: 0.6   # stays\n"),
        (("requests", 1, "speed"), 3, "share: 0.7   # stays\n    # was\n    speed: 3\ntail"),
        (("requests", 0, "link"), {"up": 1}, "     # was\n     bits: 1, link: {up: 1}}\n"),
        (("arrivals",), {"kind": "poisson"}, "# was\narrivals: {kind: poisson}\nrequests"),
        (("more",), {1: 0.5}, "tail: 1\n# was\nmore: {1: 0.5}\n"),
    ],
)
def test_one_value_changes_and_the_rest_stays(path, value, expected):
    edited = edit(TEXT, {path: value}, {path: "was"})
    assert expected in edited and edited.startswith("# a head\n" if path != ("name",) else "# a head")
    wanted = yaml.safe_load(TEXT)
    place = wanted
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert yaml.safe_load(edited) == wanted
    removed = [line for line in TEXT.splitlines() if line not in edited.splitlines()]
    assert len(removed) <= (3 if path == ("arrivals",) else 1)


def test_a_field_of_an_alias_changes_nothing_else():
    text = "bss:\n  - &a {name: a, speed: 1}   # lost\n  - {<<: *a, name: b}\n  - *a\n"
    merged = edit(text, {("bss", 1, "speed"): 2}, {})
    assert yaml.safe_load(merged)["bss"] == [
        {"name": "a", "speed": 1},
        {"name": "b", "speed": 2},
        {"name": "a", "speed": 1},
    ]
    assert "# lost" in merged
    alias = edit(text, {("bss", 2, "speed"): 2}, {("bss", 2, "speed"): "was 1"})
    assert [bs["speed"] for bs in yaml.safe_load(alias)["bss"]] == [1, 1, 2]
    assert alias.startswith("# bss.2.speed: was 1\n")


@pytest.mark.parametrize("name", preset_names())
def test_every_field_of_the_presets_can_be_edited(name):
    text = (PRESETS / f"{name}.yaml").read_text()
    content = yaml.safe_load(text)
    changes = {("arrivals", "rate_hz"): 9.5, ("name",): "mine", ("images_per_request",): {1: 0.5, 2: 0.5}}
    for field in ("ues", "bss", "requests"):
        changes |= {(field, index, "speed"): 7.5 for index in range(len(content[field]))}
    edited = edit(text, changes, {path: "a new value" for path in changes})
    assert yaml.safe_load(edited)["bss"][-1]["speed"] == 7.5
    assert edited.count("# a new value") == len(changes)
    assert edited.splitlines()[0] == text.splitlines()[0]
