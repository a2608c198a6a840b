"""What an agent has decided for a task, and what it knew then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Decision:
    """Place, steps and class of a task; ``expected_s`` and ``reason`` state what the UE knew."""

    slot: int
    place: str
    steps: int
    service_class: int
    expected_s: float
    reason: dict[str, Any]

    @property
    def attributes(self) -> dict[str, Any]:
        """Those of the span of an attempt."""
        names = ("place", "steps", "service_class", "expected_s")
        return {name: getattr(self, name) for name in names} | {"expected_cost": self.reason["expected_cost"]}
