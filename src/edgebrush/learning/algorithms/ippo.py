"""IPPO (de Witt et al. 2020): MAPPO whose critic sees only the deciding UE's local observation.

Everything else is as in mappo.py, copies with common arrivals included: their baseline needs no critic. The value of an
observation is the team's return from there on, along the merged sequence of decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..rollout import Rollout
from ..trainer import SeedTraining
from . import mappo


@dataclass(frozen=True)
class IppoConfig(mappo.MappoConfig):
    """Hyperparameters: MAPPO's."""


class Training(mappo.Training):
    """The training of one seed of IPPO."""

    algorithm = "ippo"
    name = SeedTraining.name

    def critic_inputs(self, rollout: Rollout) -> np.ndarray:
        return np.concatenate([rollout.observations, self.collector.simulator.observations[None]])
