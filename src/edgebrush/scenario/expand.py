"""One entry per UE and BS: their profiles, names, positions, and what a UE can choose."""

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
    """Where the BSs stand, ``(M, 2)`` metres: as listed, else the cells of an even grid over the area."""
    columns = math.ceil(math.sqrt(scenario.bs_count))
    rows = math.ceil(scenario.bs_count / columns)
    width, height = scenario.area_m
    places: list[tuple[float, float]] = []
    for bs in scenario.bss:
        for index in range(bs.count):
            row, column = divmod(len(places), columns)
            even = ((column + 0.5) * width / columns, (row + 0.5) * height / rows)
            places.append(bs.positions[index] if bs.positions else even)
    return np.array(places, float)


def action_space(scenario: Scenario) -> ActionSpace:
    """What a UE of the scenario can choose."""
    neighbours = min(scenario.decision.neighbours, scenario.bs_count)
    return ActionSpace(1 + neighbours, scenario.decision.step_grid, scenario.decision.classes)


def bs_names(scenario: Scenario) -> list[str]:
    """A name for each BS, in the scenario's order: its entry's, with a number where the entry has several."""
    return [
        bs.name if bs.count == 1 else f"{bs.name}-{number}" for bs in scenario.bss for number in range(1, bs.count + 1)
    ]
