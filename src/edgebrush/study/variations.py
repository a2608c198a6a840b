"""The scenarios of a study: sweeps of one quantity, ablations of MAPPO, and UEs with one decision fixed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgebrush.scenario.capacity import offered_load
from edgebrush.scenario.schema import Scenario
from edgebrush.scenario.variants import changed

UNCHANGED = "as-it-is"  # suffix of the name of a variation in which nothing differs
Change = Callable[[Scenario], dict[str, Any]]  # the fields of a scenario that change, with their new values


@dataclass(frozen=True)
class Sweep:
    """One quantity of the scenario, multiplied by factors. The scenario at a point of a sweep is a variation."""

    name: str
    label: str  # of the axis
    factors: tuple[float, ...]  # besides 1, the most informative first
    change: Callable[[Scenario, float], dict[str, Any]]  # see ``Change``, for a factor
    value: Callable[[Scenario], float]  # of the quantity, on the axis

    def variation(self, scenario: Scenario, factor: float) -> Scenario:
        """The scenario with the quantity multiplied by the factor. Raises ``UserError`` where that is not valid."""
        return changed(scenario, f"{self.name}-{factor:g}".replace(".", "-"), self.change(scenario, factor))


def unchanged(scenario: Scenario) -> Scenario:
    """The scenario as one of the variations, so that its rules and learners have the same budgets as theirs."""
    return changed(scenario, UNCHANGED, {})


@dataclass(frozen=True)
class Ablation:
    """MAPPO without one ingredient, and the name under which it is listed."""

    name: str
    title: str
    change: Change = lambda scenario: {}
    algorithm: str = "mappo"
    settings: dict[str, Any] = field(default_factory=dict)  # of the algorithm

    def scenario(self, base: Scenario) -> Scenario:
        """The scenario without the ingredient; ``base`` itself where only the algorithm differs."""
        fields = self.change(base)
        return changed(base, self.name.removeprefix("mappo-"), fields) if fields else base


@dataclass(frozen=True)
class FixedDecision:
    """A decision that the UEs do not make, because it always has the same value."""

    decision: str  # place, steps, class, or nothing
    value: str
    suffix: str  # of the scenario's name
    change: Change = lambda scenario: {}

    def scenario(self, base: Scenario) -> Scenario:
        """The scenario in which the decision is fixed."""
        return changed(base, self.suffix, self.change(base))


def _each(entries: tuple, name: str, factor: float) -> list[dict]:
    return [entry.model_dump() | {name: getattr(entry, name) * factor} for entry in entries]


def _ues(scenario: Scenario, factor: float) -> dict:
    return {"ues": [ue.model_dump() | {"count": max(1, round(ue.count * factor))} for ue in scenario.ues]}


def _load(scenario: Scenario, factor: float) -> dict:
    arrivals = scenario.arrivals
    return {"arrivals": arrivals.model_dump() | {"rate_hz": arrivals.rate_hz * factor}}


def _of_bss(name: str) -> tuple[Callable, Callable]:
    """Change and mean of a field that every BS has."""
    return (
        lambda scenario, factor: {"bss": _each(scenario.bss, name, factor)},
        lambda scenario: sum(bs.count * getattr(bs, name) for bs in scenario.bss) / scenario.bs_count,
    )


def _of_requests(name: str) -> tuple[Callable, Callable]:
    """Change and mean of a field that every kind of request has."""
    return (
        lambda scenario, factor: {"requests": _each(scenario.requests, name, factor)},
        lambda scenario: sum(kind.share * getattr(kind, name) for kind in scenario.requests),
    )


def _megahertz() -> tuple[Callable, Callable]:
    change, mean_hz = _of_bss("bandwidth_hz")
    return change, lambda scenario: mean_hz(scenario) / 1e6


SWEEPS = {
    sweep.name: sweep
    for sweep in (
        Sweep("ues", "number of UEs", (1.25, 0.5, 0.75), _ues, lambda scenario: scenario.ue_count),
        Sweep("load", "offered load (1 = the BSs at 15 steps)", (0.5, 0.75, 1.25), _load, offered_load),
        Sweep("bandwidth", "bandwidth of a BS (MHz)", (0.25, 0.5, 2.0), *_megahertz()),
        Sweep("speed", "mean speed of a BS (1 = the profile's GPU)", (0.5, 0.75, 1.5), *_of_bss("speed")),
        Sweep("delay-weight", "mean weight of delay", (4.0, 0.25, 2.0), *_of_requests("delay_weight")),
        Sweep("energy-weight", "mean weight of energy", (4.0, 0.25, 2.0), *_of_requests("energy_weight")),
        Sweep("quality-weight", "mean weight of quality", (4.0, 0.25, 2.0), *_of_requests("quality_weight")),
    )
}


def _decision(**fields: Any) -> Change:
    return lambda scenario: {"decision": scenario.decision.model_dump() | fields}


def fixed_step_counts(scenario: Scenario) -> tuple[FixedDecision, ...]:
    """Every entry of the step grid as the only one."""
    return tuple(
        FixedDecision("steps", f"{steps}", "one-step-count", _decision(step_grid=(steps,)))
        for steps in scenario.decision.step_grid
    )


def fixed_decisions(scenario: Scenario) -> tuple[FixedDecision, ...]:
    """Nothing fixed, then every value to which a study fixes the place, the steps and the service class."""
    own_device = FixedDecision("place", "own device", "own-device", _decision(neighbours=0))
    return (
        FixedDecision("nothing", "", UNCHANGED),
        *((own_device,) if scenario.decision.local else ()),
        FixedDecision("place", "nearest BS", "nearest-bs-only", _decision(neighbours=1, local=False)),
        *fixed_step_counts(scenario),
        FixedDecision("class", "one class", "one-class", _decision(classes=1)),
    )


def ablations(steps: int) -> tuple[Ablation, ...]:
    """MAPPO with one ingredient removed at a time; ``steps`` is the best single step count."""
    return (
        Ablation("mappo-one-step-count", f"no choice of the steps: always {steps}", _decision(step_grid=(steps,))),
        Ablation("mappo-one-class", "no service class", _decision(classes=1)),
        Ablation("mappo-nearest-bs", "no choice of the BS: the nearest one or the own device", _decision(neighbours=1)),
        Ablation("mappo-no-broadcast", "no broadcast", lambda scenario: {"broadcast_interval_s": math.inf}),
        Ablation("ippo+common", "local critic instead of the central one", algorithm="ippo+common"),
        Ablation("mappo-plain", "no copies with common arrivals", algorithm="mappo-plain"),
        Ablation("mappo-no-prices", "no price initialisation", settings={"init_from_rule": False}),
        Ablation(
            "mappo-as-explored",
            "deployed with the temperature of exploration",
            settings={"deploy_inverse_temperature": 1.0},
        ),
    )
