"""Whether the machine was too busy for a testbed run's numbers to be trusted.

A busy machine wakes processes late, so that everything takes longer than on the emulated hardware.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

LATE_S = 0.02  # a request that is sent this long after its scheduled time is late
LATE_LIMIT = 0.05  # share of late requests
OVERRUN_LIMIT = 0.05  # of the time that denoising takes, relative to the emulated hardware's
LOAD_LIMIT = 1.0  # load average per core at the start of the first policy; the testbed itself adds to later ones
TOO_BUSY = "the machine was too busy for these numbers to be trusted"


@dataclass(frozen=True)
class Timing:
    """How well the machine kept the times of one policy's run."""

    load_average: float  # at the start, over one minute
    lateness_s: Sequence[float]  # of each request behind its scheduled time
    paced_s: float  # of denoising, as the emulated hardware would take
    taken_s: float  # of the same denoising, as it took

    @property
    def late_share(self) -> float:
        """The share of the requests that were sent more than ``LATE_S`` late."""
        return float(np.mean([each > LATE_S for each in self.lateness_s])) if self.lateness_s else 0.0

    @property
    def overrun(self) -> float:
        """By how much denoising took longer than on the emulated hardware, relative."""
        return self.taken_s / self.paced_s - 1.0 if self.paced_s > 0.0 else 0.0

    def entries(self) -> dict[str, float]:
        """The entries in ``results.json``."""
        return {
            "asked_too_late_s": round(max(self.lateness_s, default=0.0), 4),
            "late_share": round(self.late_share, 4),
            "denoising_overrun": round(self.overrun, 4),
            "load_average": round(self.load_average, 2),
        }


def load_warnings(load_average: float, cores: int | None = None) -> list[str]:
    """A sentence where other work kept the cores busy at the start of a run."""
    limit = LOAD_LIMIT * (cores or os.cpu_count() or 1)
    if load_average <= limit:
        return []
    return [f"{TOO_BUSY}: the load average at the start was {load_average:.1f} (limit {limit:g}, 1 per core)"]


def timing_warnings(policy: str, timing: Timing) -> list[str]:
    """Sentences about what happened too late under a policy."""
    found = []
    if timing.late_share > LATE_LIMIT:
        found.append(
            f"{timing.late_share:.0%} of the requests were sent more than {1e3 * LATE_S:g} ms late "
            f"(limit {LATE_LIMIT:.0%})"
        )
    if timing.overrun > OVERRUN_LIMIT:
        found.append(f"denoising took {timing.overrun:.0%} longer than paced (limit {OVERRUN_LIMIT:.0%})")
    return [f"{TOO_BUSY}: under {policy} {each}" for each in found]


def denoising_s(metrics: str, intercept_s: float, slope_s: float) -> tuple[float, float]:
    """Paced and taken seconds of a BS's rounds, from its metrics.

    A round of ``b`` images is paced to ``intercept_s + b * slope_s``.
    """
    values = {
        sample.name: sample.value for family in text_string_to_metric_families(metrics) for sample in family.samples
    }
    rounds, taken_s = values["edgebrush_round_seconds_count"], values["edgebrush_round_seconds_sum"]
    return intercept_s * rounds + slope_s * values["edgebrush_steps_total"], taken_s
