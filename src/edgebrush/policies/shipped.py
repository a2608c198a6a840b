"""Policies by name; a rule gets the numbers that were tuned for the scenario, a preset's or those beside its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgebrush.decision.choices import ChoiceShape
from edgebrush.errors import UserError
from edgebrush.scenario.load import PRESETS, fingerprint
from edgebrush.scenario.schema import Scenario

from .folder import load_policy
from .protocol import Policy
from .rules import KINDS, Rule, numbers_of


def shipped_rules(scenario: Scenario, shape: ChoiceShape) -> list[Rule] | None:
    """Every rule as ``edgebrush tune`` left it in ``<name>.rules.json``, beside the scenario or among the presets.

    None where there is no such file, or where it is for another world: a changed preset is not the preset.
    """
    for folder in (scenario.directory, PRESETS):
        path = folder / f"{scenario.name}.rules.json"
        if path.is_file():
            shipped = json.loads(path.read_text(encoding="utf-8"))
            if shipped["scenario"] == fingerprint(scenario):
                grid = np.array(scenario.decision.step_grid)
                return [
                    Rule(rule, np.array(list(found["numbers"].values())), shape, grid)
                    for rule, found in shipped["rules"].items()
                ]
    return None


def named_policy(name: str, scenario: Scenario, shape: ChoiceShape) -> Policy:
    """The rule of this name, with the scenario's numbers, or the trained policy in this folder.

    Raises ``UserError`` where there is neither, or the rule's numbers have not been tuned for this scenario.
    """
    grid = np.array(scenario.decision.step_grid)
    if name in KINDS:
        if not numbers_of(KINDS[name], scenario.bs_count):
            return Rule(name, np.zeros(0), shape, grid)
        rules = {rule.name: rule for rule in shipped_rules(scenario, shape) or []}
        if name not in rules:
            raise UserError(
                f"policy {name!r}: its numbers are not tuned for {scenario.name}; give `edgebrush tune` the --out "
                f"{scenario.directory / scenario.name}.rules.json"
            )
        return rules[name]
    return trained_policy(name, scenario, shape)


def trained_policy(folder: Path | str, scenario: Scenario, shape: ChoiceShape) -> Policy:
    """The policy in a folder, for this scenario's choices. Raises ``UserError`` where it cannot be used."""
    if not Path(folder).is_dir():
        known = ", ".join(KINDS)
        raise UserError(f"policy {str(folder)!r}: neither a folder of a trained policy nor a rule; rules are {known}")
    return load_policy(Path(folder), shape, np.array(scenario.decision.step_grid), scenario.bs_count)
