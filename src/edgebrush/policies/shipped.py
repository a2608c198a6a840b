"""Rules with the numbers that were tuned for a scenario: those that ship with a preset, or one's own beside the file."""

from __future__ import annotations

import json

import numpy as np

from edgebrush.decision.choices import ChoiceShape
from edgebrush.scenario.load import PRESETS, fingerprint
from edgebrush.scenario.schema import Scenario

from .rules import Rule


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
