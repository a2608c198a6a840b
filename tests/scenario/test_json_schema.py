"""The JSON Schema of scenario files: current, shipped beside the presets, and as strict as the loader."""

import json

import jsonschema_rs
import pytest
import yaml

from edgebrush.scenario.json_schema import SCHEMA, json_schema, schema_text
from edgebrush.scenario.presets import PRESETS, preset_names
from edgebrush.scenario.schema import Scenario

VALIDATOR = jsonschema_rs.validator_for(json_schema())


def content(preset):
    """A preset as an editor's language server sees it: every key is text."""
    loaded = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())
    return json.loads(json.dumps(loaded))


def test_the_shipped_file_is_current():
    assert SCHEMA.read_text() == schema_text(), f"run `edgebrush scenarios schema > {SCHEMA}`"


@pytest.mark.parametrize("preset", preset_names())
def test_presets_name_the_schema_and_are_valid(preset):
    first = (PRESETS / f"{preset}.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA.name}"
    VALIDATOR.validate(content(preset))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("bss", 0, "bandwith_hz"), 1e6),
        (("bss", 0, "bandwidth_hz"), -1),
        (("decision", "classes"), 9),
        (("arrivals", "kind"), "weekly"),
        (("directory",), "somewhere"),
        (("name",), "My World"),
    ],
)
def test_what_the_loader_refuses_is_marked(place, value):
    scenario = content("pair")
    at = scenario
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    assert not VALIDATOR.is_valid(scenario)


def test_arrivals_need_their_kind():
    scenario = content("pair")
    del scenario["arrivals"]["kind"]
    assert not VALIDATOR.is_valid(scenario)


def test_every_field_of_a_scenario_file_is_there():
    assert set(json_schema()["properties"]) == set(Scenario.model_fields) - {"directory"}
