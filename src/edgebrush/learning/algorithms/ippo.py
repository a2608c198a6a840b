"""IPPO (de Witt et al. 2020): MAPPO whose critic, too, sees only the deciding UE's local observation.

All else is as in mappo.py, the copies with common arrivals included: a baseline that needs no critic. The value of an
observation is what the team pays from there on, along the merged sequence of decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..rollout import Batch
from . import mappo


@dataclass(frozen=True)
class IppoConfig(mappo.MappoConfig):
    """Hyperparameters: MAPPO's."""


class Training(mappo.Training):
    """One seed's training of IPPO."""

    name = "ippo"  # type: ignore[assignment]

    def critic_inputs(self, batch: Batch) -> np.ndarray:
        return np.concatenate([batch.observations, self.collector.simulator.observations[None]])
