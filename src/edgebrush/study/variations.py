"""Where the study looks: the scenario with one thing more or less of, and with one thing taken away."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgebrush.scenario.capacity import offered_load
from edgebrush.scenario.schema import Scenario
from edgebrush.scenario.variants import changed


@dataclass(frozen=True)
class Sweep:
    """One quantity of the scenario, multiplied by factors; everything else stays."""

    name: str
    label: str  # of the axis
    factors: tuple[float, ...]  # besides 1, the most telling first
    change: Callable[[Scenario, float], dict]  # the fields that a factor changes
    value: Callable[[Scenario], float]  # what the axis shows

    def at(self, scenario: Scenario, factor: float) -> Scenario:
        """The scenario with the quantity times the factor."""
        return changed(scenario, f"{self.name}-{factor:g}".replace(".", "-"), self.change(scenario, factor))


@dataclass(frozen=True)
class Ablation:
    """What is taken from MAPPO, and the name under which what is left is listed."""

    name: str
    title: str
    change: Callable[[Scenario], dict] = lambda scenario: {}  # of the scenario
    algorithm: str = "mappo"
    settings: dict[str, Any] = field(default_factory=dict)  # of the algorithm

    def world(self, scenario: Scenario) -> Scenario:
        """The scenario without it; the same one where it is the algorithm that lacks something."""
        fields = self.change(scenario)
        return changed(scenario, self.name.removeprefix("mappo-"), fields) if fields else scenario


def as_it_is(scenario: Scenario) -> Scenario:
    """The scenario as a point among a sweep's others, where all is tuned, trained and played as at those."""
    return changed(scenario, "as-it-is", {})


def _each(entries: tuple, name: str, factor: float) -> list[dict]:
    return [entry.model_dump() | {name: getattr(entry, name) * factor} for entry in entries]


def _ues(scenario: Scenario, factor: float) -> dict:
    return {"ues": [ue.model_dump() | {"count": max(1, round(ue.count * factor))} for ue in scenario.ues]}


def _load(scenario: Scenario, factor: float) -> dict:
    arrivals = scenario.arrivals
    return {"arrivals": arrivals.model_dump() | {"rate_hz": arrivals.rate_hz * factor}}


def _of_bss(name: str) -> tuple[Callable, Callable]:
    """Change and mean of a number that every BS has."""
    return (
        lambda scenario, factor: {"bss": _each(scenario.bss, name, factor)},
        lambda scenario: sum(bs.count * getattr(bs, name) for bs in scenario.bss) / scenario.bs_count,
    )


def _of_requests(name: str) -> tuple[Callable, Callable]:
    """Change and mean of a weight that every kind of request has."""
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


def _decision(**fields: Any) -> Callable[[Scenario], dict]:
    return lambda scenario: {"decision": scenario.decision.model_dump() | fields}


def ablations(steps: int) -> tuple[Ablation, ...]:
    """What is taken from MAPPO, one thing at a time; ``steps`` is the best single step count."""
    return (
        Ablation("mappo-one-step-count", f"no step choice: always {steps}", _decision(step_grid=(steps,))),
        Ablation("mappo-one-class", "no service class", _decision(classes=1)),
        Ablation("mappo-nearest-bs", "no BS choice: the nearest or the own device", _decision(neighbours=1)),
        Ablation("mappo-no-broadcast", "no broadcast", lambda scenario: {"broadcast_interval_s": math.inf}),
        Ablation("ippo", "local critic instead of the central one", algorithm="ippo"),
        Ablation("mappo-plain", "no copies with common arrivals", algorithm="mappo-plain"),
        Ablation("mappo-no-prices", "no price initialisation", settings={"own_prices": True}),
        Ablation("mappo-as-explored", "deployed no sharper than it explored", settings={"sharpness": 1.0}),
    )
