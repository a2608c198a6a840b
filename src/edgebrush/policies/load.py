"""Load a policy by name, folder or plugin reference; a rule gets the parameters tuned for the scenario."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgebrush.errors import UserError
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.load import fields_hash
from edgebrush.scenario.presets import PRESETS
from edgebrush.scenario.schema import Scenario

from .folder import read_policy
from .plugins import load_plugin_policy
from .protocol import Policy
from .rules import KINDS, Rule, tunable_parameters


def shipped_rules(scenario: Scenario) -> list[Rule] | None:
    """All rules with the tuned parameters in ``<name>.rules.json``, next to the scenario or among the presets.

    None if there is no such file, or if it was tuned for other fields (for example those of a changed preset).
    """
    for folder in (scenario.directory, PRESETS):
        path = folder / f"{scenario.name}.rules.json"
        if path.is_file():
            shipped = json.loads(path.read_text(encoding="utf-8"))
            if shipped["scenario"] == fields_hash(scenario):
                space = action_space(scenario)
                return [
                    Rule(rule, np.array(list(found["numbers"].values())), space)
                    for rule, found in shipped["rules"].items()
                ]
    return None


def load_policy(name: str | Path, scenario: Scenario) -> Policy:
    """The rule of this name with its tuned parameters, the trained policy in this folder, or a plugin's policy.

    ``module:Class`` names a plugin, see ``plugins.py``. Raises ``UserError`` if ``name`` is none of the three, if the
    rule's parameters are not tuned for this scenario, or if the policy was trained for another action space.
    """
    space = action_space(scenario)
    if name in KINDS:
        if not tunable_parameters(KINDS[str(name)], scenario.bs_count):
            return Rule(str(name), np.zeros(0), space)
        rules = {rule.name: rule for rule in shipped_rules(scenario) or []}
        if name not in rules:
            raise UserError(
                f"policy {str(name)!r}: its parameters are not tuned for {scenario.name}; run `edgebrush tune` with "
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
