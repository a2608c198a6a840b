"""What follows from a scenario: one entry per UE and BS with profiles, names and positions; the action space."""

from __future__ import annotations

import math

import numpy as np

from edgebrush.decision.action_space import ActionSpace
from edgebrush.profiles.catalogue import load_profile
from edgebrush.profiles.schema import Profile
from edgebrush.scenario.schema import Bs, Scenario, Ue


def expand_ues(scenario: Scenario) -> list[tuple[Ue, Profile]]:
    """One entry per UE, in the scenario's order."""
    loaded = [(ue, load_profile(ue.profile, scenario.directory)) for ue in scenario.ues]
    return [entry for entry in loaded for _ in range(entry[0].count)]


def expand_bss(scenario: Scenario) -> list[tuple[Bs, Profile]]:
    """One entry per BS, in the scenario's order."""
    loaded = [(bs, load_profile(bs.profile, scenario.directory)) for bs in scenario.bss]
    return [entry for entry in loaded for _ in range(entry[0].count)]


def bs_positions(scenario: Scenario) -> np.ndarray:
    """Positions of the BSs, ``(M, 2)`` metres: as given, else the centres of the cells of an even grid."""
    columns = math.ceil(math.sqrt(scenario.bs_count))
    rows = math.ceil(scenario.bs_count / columns)
    width, height = scenario.area_m
    positions: list[tuple[float, float]] = []
    for bs in scenario.bss:
        for index in range(bs.count):
            row, column = divmod(len(positions), columns)
            even = ((column + 0.5) * width / columns, (row + 0.5) * height / rows)
            positions.append(bs.positions[index] if bs.positions else even)
    return np.array(positions, float)


def action_space(scenario: Scenario) -> ActionSpace:
    """What a UE of the scenario can choose."""
    neighbours = min(scenario.decision.neighbours, scenario.bs_count)
    return ActionSpace(1 + neighbours, scenario.decision.step_grid, scenario.decision.classes)


def bs_names(scenario: Scenario) -> list[str]:
    """The name of each BS, in the scenario's order: that of its entry, plus a number if the entry has several."""
    return [
        bs.name if bs.count == 1 else f"{bs.name}-{number}" for bs in scenario.bss for number in range(1, bs.count + 1)
    ]
