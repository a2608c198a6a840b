"""Policies by name or folder; a rule gets the numbers that were tuned for the scenario."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgebrush.errors import UserError
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.load import fingerprint
from edgebrush.scenario.presets import PRESETS
from edgebrush.scenario.schema import Scenario

from .folder import read_policy
from .plugins import load_plugin_policy
from .protocol import Policy
from .rules import KINDS, Rule, numbers_of


def shipped_rules(scenario: Scenario) -> list[Rule] | None:
    """Every rule with the numbers in ``<name>.rules.json``, beside the scenario or among the presets.

    None where there is no such file, or where it was tuned for another scenario (a changed preset, say).
    """
    for folder in (scenario.directory, PRESETS):
        path = folder / f"{scenario.name}.rules.json"
        if path.is_file():
            shipped = json.loads(path.read_text(encoding="utf-8"))
            if shipped["scenario"] == fingerprint(scenario):
                space = action_space(scenario)
                return [
                    Rule(rule, np.array(list(found["numbers"].values())), space)
                    for rule, found in shipped["rules"].items()
                ]
    return None


def load_policy(name: str | Path, scenario: Scenario) -> Policy:
    """The rule of this name, with the scenario's numbers, the trained policy in this folder, or a plugin's policy.

    ``module:Class`` names a plugin, see ``plugins.py``. Raises ``UserError`` where there is none of the three, the
    rule's numbers have not been tuned for this scenario, or the policy was trained for other choices.
    """
    space = action_space(scenario)
    if name in KINDS:
        if not numbers_of(KINDS[str(name)], scenario.bs_count):
            return Rule(str(name), np.zeros(0), space)
        rules = {rule.name: rule for rule in shipped_rules(scenario) or []}
        if name not in rules:
            raise UserError(
                f"policy {str(name)!r}: its numbers are not tuned for {scenario.name}; give `edgebrush tune` the "
                f"--out {scenario.directory / scenario.name}.rules.json"
            )
        return rules[str(name)]
    if not Path(name).is_dir():
        if (plugin := load_plugin_policy(str(name), scenario)) is not None:
            return plugin
        raise UserError(
            f"policy {str(name)!r}: neither a folder of a trained policy nor a rule; rules are {', '.join(KINDS)}; "
            "give a class of your own as module:Class"
        )
    return read_policy(Path(name), space, scenario.bs_count)
