"""Variants of a scenario: other arrivals, another load, other fields."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from edgebrush.errors import UserError, explain
from edgebrush.scenario.capacity import offered_load
from edgebrush.scenario.schema import Scenario, TraceArrivals


def asked_for(scenario: Scenario, trace: Path | None = None, load: float | None = None) -> Scenario:
    """The scenario with a trace's arrivals instead of its own, scaled to an offered load where one is given.

    1 is what the BSs can do at 15 steps with full batches. Raises ``UserError``.
    """
    if load is not None and not 0.0 < load < float("inf"):
        raise UserError(f"load = {load:g}: must be positive; 1 is what the base stations can do")
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


def changed(scenario: Scenario, suffix: str, fields: dict) -> Scenario:
    """The scenario with other fields, validated again, under a name of its own. Raises ``UserError``."""
    content = scenario.model_dump() | {"directory": scenario.directory, "name": f"{scenario.name}-{suffix}"}
    try:
        return Scenario.model_validate(content | fields)
    except ValidationError as error:
        raise UserError(explain(error, f"{scenario.name} with {suffix}")) from None
