"""The table of the closed loop for a page or a terminal: testbed and simulator, each deciding for itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DIGITS = {"steps": 1, "cost": 3, "mean delay s": 3, "p95 delay s": 2, "phone J": 3, "BS J": 2}
CAPTION = "each deciding for itself: testbed | simulator, ± 95% noise of their difference"


def table(closed_loop: Mapping[str, Any]) -> list[list[str]]:
    """A header and one row per measure; ``closed_loop`` is that entry of ``results.json``. One column per policy."""
    policies = closed_loop["policies"]
    measures = next(iter(policies.values()))
    return [
        ["", *policies],
        *([name, *(_cell(name, differences[name]) for differences in policies.values())] for name in measures),
    ]


def _cell(name: str, each: Mapping[str, float | None]) -> str:
    """``29% | 31% ±4``; without the noise where it is unknown."""
    values = (_value(name, each["testbed"]), _value(name, each["simulator"]))
    noise = "" if each["noise"] is None else f" ±{_value(name, each['noise']).rstrip('%')}"
    return f"{' | '.join(values)}{noise}"


def _value(name: str, value: float | None) -> str:
    return f"{value:.{DIGITS[name]}f}" if name in DIGITS else f"{value:.0%}"
