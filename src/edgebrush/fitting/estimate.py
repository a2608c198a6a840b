"""A field of the scenario with what the records say about it, and the statistics that all estimates share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Z = 1.96  # of a 95% interval


@dataclass(frozen=True)
class Estimate:
    """The value of a field before and after a fit; ``after`` is None where it is left as it was, and ``note`` says why.

    ``count`` is the number of tasks or requests behind it; ``interval`` a 95% interval, where it means something.
    """

    path: tuple[str | int, ...]
    before: Any
    after: Any
    count: int
    interval: tuple[float, float] | None = None
    note: str = ""

    @property
    def changed(self) -> bool:
        return self.after is not None and self.after != self.before


def measured(
    path: tuple[str | int, ...], before: Any, after: Any, count: int, interval: tuple[float, float], note: str = ""
) -> Estimate:
    """A number that replaces the one before, unless that lies within the interval."""
    if interval[0] <= before <= interval[1]:
        return Estimate(path, before, None, count, interval, "left: within the interval")
    return Estimate(path, before, after, count, interval, note)


def left(path: tuple[str | int, ...], before: Any, count: int, note: str) -> Estimate:
    """A field that is left as it was."""
    return Estimate(path, before, None, count, note=note)


def too_few(path: tuple[str | int, ...], before: Any, count: int, needed: int) -> Estimate:
    return left(path, before, count, f"left: {count} of at least {needed}")


def rounded(value: float, digits: int = 4) -> float:
    """A value with so many significant digits."""
    return float(f"{value:.{digits}g}")


def median(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median with its 95% interval by order statistics."""
    ordered, count = np.sort(values), len(values)
    reach = 0.5 * Z * math.sqrt(count)
    low, high = max(math.floor(0.5 * count - reach), 0), min(math.ceil(0.5 * count + reach), count - 1)
    return float(np.median(ordered)), (float(ordered[low]), float(ordered[high]))


def share_interval(count: int, total: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share."""
    share = count / total
    centre = share + Z**2 / (2 * total)
    reach = Z * math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    return (centre - reach) / (1 + Z**2 / total), (centre + reach) / (1 + Z**2 / total)


def shares_of(counts: Sequence[float]) -> list[float]:
    """Positive shares with four digits that sum to 1; half a count more each, so that none is 0."""
    total = sum(counts) + 0.5 * len(counts)
    shares = [max(round((count + 0.5) / total, 4), 1e-4) for count in counts]
    largest = shares.index(max(shares))
    shares[largest] = round(shares[largest] + 1.0 - sum(shares), 4)
    return shares
