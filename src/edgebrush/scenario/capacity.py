"""The offered load of a scenario: task arrivals relative to the capacity of its BSs."""

from __future__ import annotations

from edgebrush.profiles.catalogue import load_profile

from .schema import Scenario

REFERENCE_STEPS = 15


def offered_load(scenario: Scenario, steps: int = REFERENCE_STEPS) -> float:
    """Tasks that arrive per second, divided by the tasks that all BSs finish per second; above 1 the UEs must help.

    Raises ``UserError`` if a profile cannot be used.
    """
    return scenario.task_rate_hz / bs_capacity_hz(scenario, steps)


def bs_capacity_hz(scenario: Scenario, steps: int = REFERENCE_STEPS) -> float:
    """Tasks per second that all BSs together finish with full batches, at ``steps`` steps per task.

    A task takes its fixed parts and, in each of its rounds, a share 1/B of the engine:
    ``encode_s + decode_s + steps (round_intercept_s + round_slope_s B) / B``, divided by the server's speed.
    """
    total_hz = 0.0
    for bs in scenario.bss:
        compute = load_profile(bs.profile, scenario.directory).compute
        round_s = compute.round_intercept_s + compute.round_slope_s * bs.batch_limit
        task_s = compute.encode_s + compute.decode_s + steps * round_s / bs.batch_limit
        total_hz += bs.count * bs.speed / task_s
    return total_hz
