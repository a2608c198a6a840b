"""Random schedules of faults: storms, in each of which some faults begin, overlap and end. A calm follows each storm.

A storm depends only on the seed and its number, so a failure can be replayed from any storm on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KINDS = {
    "burst": "many requests at once at one agent",
    "kill-bs": "a station is killed (SIGKILL), and started again later",
    "freeze": "a station or an agent is frozen (SIGSTOP)",
    "slow-link": "a link between an agent and a station becomes slow",
    "cut-link": "nothing passes a link between an agent and a station",
    "errors-5xx": "a station answers with status 500, 502 or 503",
    "storm-429": "a station answers with status 429 and Retry-After",
    "garbage": "a station's answers are damaged",
    "full-disk": "an agent cannot write to its disk",
    "clock-step": "the wall clock of all processes jumps",
    "restart-bs": "a station is stopped (SIGTERM) and started again",
    "restart-ue": "an agent is killed (SIGKILL) and started again",
}
STORM_S = (4.0, 8.0)  # within which a storm's faults begin
FAULTS = (2, 5)  # of a storm
DURATION_S = (0.5, 4.0)  # of a fault
BURST_TASKS = (20, 200)
SLOW_BPS = (20e3, 200e3)
CLOCK_STEP_S = 86_400.0  # at most, in either direction


@dataclass(frozen=True)
class PlannedFault:
    """A fault that begins ``at_s`` after its storm's start. UEs and BSs count from 0; None: not one in particular.

    ``size`` is the number of tasks of a burst, the bit/s of a slow link, the seconds of a clock's step, and for wrong
    answers a number from 0 to 1 that chooses the answers.
    """

    kind: str
    at_s: float
    duration_s: float
    ue: int | None
    bs: int | None
    size: float

    def __str__(self) -> str:
        where = [f"ue-{self.ue + 1}" if self.ue is not None else "", f"bs {self.bs + 1}" if self.bs is not None else ""]
        place = " and ".join(filter(None, where)) or "all processes"
        return f"{self.at_s:.1f} s {self.kind} at {place} for {self.duration_s:.1f} s (size {self.size:.3g})"

    def affects(self, ue: int, bs: int) -> bool:
        """Whether the fault may keep an agent from using a station. A burst keeps all stations busy."""
        return self.kind == "burst" or (self.ue in (None, ue) and self.bs in (None, bs))


@dataclass(frozen=True)
class Storm:
    """Faults in the order of their start."""

    number: int
    faults: tuple[PlannedFault, ...]

    def __str__(self) -> str:
        return f"storm {self.number}: " + "; ".join(map(str, self.faults))


def draw_storm(seed: int, number: int, ues: int, bss: int, kinds: Sequence[str] = tuple(KINDS)) -> Storm:
    """Storm ``number`` of a seed, with different kinds of faults.

    The last UE and the last BS are never killed or restarted, so that their memory can be watched for the whole run.
    """
    random = np.random.default_rng([seed, number])
    count = min(len(kinds), int(random.integers(FAULTS[0], FAULTS[1], endpoint=True)))
    span_s = random.uniform(*STORM_S)
    chosen = [kinds[each] for each in random.permutation(len(kinds))[:count]]
    faults = [_draw_fault(kind, span_s, random, ues, bss) for kind in chosen]
    return Storm(number, tuple(sorted(faults, key=lambda fault: fault.at_s)))


def _draw_fault(kind: str, span_s: float, random: np.random.Generator, ues: int, bss: int) -> PlannedFault:
    at_s, duration_s = random.uniform(0.0, span_s), random.uniform(*DURATION_S)
    ue, bs = int(random.integers(ues)), int(random.integers(bss))
    mortal_ue, mortal_bs = int(random.integers(max(1, ues - 1))), int(random.integers(max(1, bss - 1)))
    freezes_bs = bool(random.random() < 0.7)
    size = random.random()
    match kind:
        case "burst":
            return PlannedFault(kind, at_s, duration_s, ue, None, float(int(_between(BURST_TASKS, size))))
        case "kill-bs" | "restart-bs":
            return PlannedFault(kind, at_s, duration_s, None, mortal_bs, size)
        case "restart-ue":
            return PlannedFault(kind, at_s, duration_s, mortal_ue, None, size)
        case "freeze":
            return PlannedFault(kind, at_s, duration_s, None if freezes_bs else ue, bs if freezes_bs else None, size)
        case "slow-link":
            return PlannedFault(kind, at_s, duration_s, ue, bs, _between(SLOW_BPS, size))
        case "cut-link":
            return PlannedFault(kind, at_s, duration_s, ue, bs, size)
        case "full-disk":
            return PlannedFault(kind, at_s, duration_s, ue, None, size)
        case "clock-step":
            return PlannedFault(kind, at_s, duration_s, None, None, CLOCK_STEP_S * (2.0 * size - 1.0))
        case _:
            return PlannedFault(kind, at_s, duration_s, None, bs, size)


def _between(limits: tuple[float, float], share: float) -> float:
    """A value between two limits, on a logarithmic scale."""
    low, high = limits
    return float(low * (high / low) ** share)
