"""The cost of a task, for the simulator (compiled by numba) and for the testbed (plain Python).

``C = w_D D + w_E (E_ue + omega E_bs) + w_Q (1 - Q) + missed + lost``; the weights are divided by their references
already, see docs/simulator.md.
"""

from __future__ import annotations

from typing import Any


def energy_weight_at(energy_weight: float, battery_care: float, battery_level: float) -> float:
    """Cost per joule at a battery level from 0 to 1: an emptier battery makes energy dearer."""
    return energy_weight * (1.0 + battery_care * (1.0 - battery_level))


def quality_at(ceiling: float, half_steps: float, sharpness: float, difficulty: float, steps: float) -> float:
    """``Q(k, c) = ceiling / (1 + (difficulty * half_steps / k)^sharpness)``."""
    quality: float = ceiling / (1.0 + (difficulty * half_steps / steps) ** sharpness)
    return quality


def penalty(missed_cost: float, lost_cost: float, missed: bool, lost: bool) -> float:
    """The cost of a missed deadline and of a lost task."""
    return (missed_cost if missed else 0.0) + (lost_cost if lost else 0.0)


def fill_cost(
    outcome: Any,
    delay_weight: float,
    energy_weight: float,
    quality_weight: float,
    bs_energy_weight: float,
    penalty_cost: float,
) -> None:
    """Fill the costs of an ``OUTCOME`` record from its delay, energies and quality, and these weights."""
    outcome.delay_cost = delay_weight * outcome.delay_s
    outcome.energy_cost = energy_weight * (outcome.energy_ue_j + bs_energy_weight * outcome.energy_bs_j)
    outcome.quality_cost = quality_weight * (1.0 - outcome.quality)
    outcome.penalty_cost = penalty_cost
    outcome.cost = outcome.delay_cost + outcome.energy_cost + outcome.quality_cost + penalty_cost
