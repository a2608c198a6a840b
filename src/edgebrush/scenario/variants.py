"""Variants of a scenario: a trace's arrivals, another offered load, other fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgebrush.errors import UserError, explain
from edgebrush.scenario.capacity import offered_load
from edgebrush.scenario.schema import Scenario, TraceArrivals


def with_overrides(scenario: Scenario, trace: Path | None = None, load: float | None = None) -> Scenario:
    """The scenario with the arrivals of a trace, and scaled to an offered load, if these are given.

    A load of 1 is the capacity of all BSs at 15 steps with full batches. Raises ``UserError``.
    """
    if load is not None and not 0.0 < load < float("inf"):
        raise UserError(f"load = {load:g}: must be positive; 1 is the capacity of the base stations")
    name, arrivals, factor = scenario.name, scenario.arrivals, 1.0
    if load is not None:
        factor = load / offered_load(scenario)
        name += f"-load-{load:g}".replace(".", "-")
    if trace is not None:
        users = sum(ue.count * ue.rate_factor for ue in scenario.ues)
        arrivals = TraceArrivals(file=trace.absolute(), rate_hz=scenario.task_rate_hz / users)
        name += "-trace"
    if trace is None and load is None:
        return scenario
    arrivals = arrivals.model_copy(update={"rate_hz": arrivals.rate_hz * factor})
    return scenario.model_copy(update={"name": name, "arrivals": arrivals})


def changed(scenario: Scenario, suffix: str, fields: dict[str, Any]) -> Scenario:
    """The scenario with other fields, validated again, and with ``suffix`` in its name. Raises ``UserError``."""
    content = scenario.model_dump() | {"directory": scenario.directory, "name": f"{scenario.name}-{suffix}"}
    try:
        return Scenario.model_validate(content | fields)
    except ValidationError as error:
        raise UserError(explain(error, f"{scenario.name} with {suffix}")) from None
