"""What ships with a preset is for that preset as it is; one's own numbers lie beside one's own scenario."""

import pytest

from edgebrush.policies.rules import KINDS
from edgebrush.policies.shipped import shipped_rules
from edgebrush.scenario.load import PRESETS, load_scenario, preset_names
from edgebrush.sim.tables import choice_shape


@pytest.mark.parametrize("preset", preset_names())
def test_presets_ship_every_rules_numbers(preset):
    scenario = load_scenario(preset)
    assert [rule.name for rule in shipped_rules(scenario, choice_shape(scenario))] == list(KINDS)


def test_a_changed_preset_does_not_get_the_shipped_numbers():
    campus = load_scenario("campus")
    assert shipped_rules(campus.model_copy(update={"horizon_s": 100.0}), choice_shape(campus)) is None
    assert shipped_rules(campus.model_copy(update={"description": "the same world"}), choice_shape(campus)) is not None


def test_numbers_beside_the_scenario_are_its_own(tmp_path):
    (tmp_path / "pair.yaml").write_text((PRESETS / "pair.yaml").read_text())
    numbers = (PRESETS / "pair.rules.json").read_text()
    (tmp_path / "pair.rules.json").write_text(numbers.replace('"local-only"', '"nearest-bs"'))
    mine = load_scenario(tmp_path / "pair.yaml")
    assert "local-only" not in [rule.name for rule in shipped_rules(mine, choice_shape(mine))]
