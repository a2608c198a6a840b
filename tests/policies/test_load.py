"""Shipped rules belong to an unchanged preset; a user's own rule file lies next to the user's scenario."""

import numpy as np
import pytest

from edgebrush.errors import UserError
from edgebrush.policies.folder import save_policy
from edgebrush.policies.load import load_policy, shipped_rules
from edgebrush.policies.rules import KINDS
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.presets import PRESETS, preset_names


@pytest.mark.parametrize("preset", preset_names())
def test_presets_ship_the_parameters_of_every_rule(preset):
    scenario = load_scenario(preset)
    assert [rule.name for rule in shipped_rules(scenario)] == list(KINDS)


def test_a_changed_preset_does_not_get_the_shipped_parameters():
    campus = load_scenario("campus")
    assert shipped_rules(campus.model_copy(update={"horizon_s": 100.0})) is None
    assert shipped_rules(campus.model_copy(update={"description": "the same world"})) is not None


def test_a_rule_file_next_to_the_scenario_is_used(tmp_path):
    (tmp_path / "pair.yaml").write_text((PRESETS / "pair.yaml").read_text())
    rules = (PRESETS / "pair.rules.json").read_text()
    (tmp_path / "pair.rules.json").write_text(rules.replace('"local-only"', '"nearest-bs"'))
    mine = load_scenario(tmp_path / "pair.yaml")
    assert "local-only" not in [rule.name for rule in shipped_rules(mine)]


def test_a_policy_is_a_rule_s_name_or_a_folder(tmp_path):
    campus = load_scenario("campus")
    space = action_space(campus)
    weights = {"prices": np.zeros(3, np.float32), "growth": np.zeros(3, np.float32)}
    save_policy(tmp_path / "mine", "mine", weights, {"step_grid": space.step_grid, "classes": space.classes})
    assert load_policy(str(tmp_path / "mine"), campus).name == "mine"
    assert load_policy("priced-greedy", campus).parameters.shape == (12,)
    with pytest.raises(UserError, match="neither a folder of a trained policy nor a rule"):
        load_policy("priced", campus)


def test_a_rule_without_parameters_needs_no_tuning():
    mine = load_scenario("campus").model_copy(update={"name": "mine"})
    assert load_policy("selfish-greedy", mine).name == "selfish-greedy"
    with pytest.raises(UserError, match="its parameters are not tuned for mine"):
        load_policy("priced-greedy", mine)
