"""The job of training one seed of a learner."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.jobs.executor import Hear, Workers
from edgebrush.jobs.keys import hash_of, world_of
from edgebrush.learning import CHECKPOINT, CURVE
from edgebrush.scenario.schema import Scenario


@dataclass(frozen=True)
class TrainingUnit:
    """One training seed of a learner on a scenario; ``name`` is what the tables call it."""

    scenario: Scenario
    name: str
    algorithm: str
    config: Any
    seed: int
    prices: np.ndarray
    home: Path

    @property
    def title(self) -> str:
        return f"{self.name} seed {self.seed} on {self.scenario.name}"

    @cached_property
    def path(self) -> Path:
        parts = (world_of(self.scenario), self.algorithm, asdict(self.config), self.seed, self.prices.tolist())
        return self.home / "trainings" / hash_of(*parts)

    @property
    def done(self) -> bool:
        return (self.path / CURVE).is_file() and not (self.path / CHECKPOINT).exists()

    @property
    def policy(self) -> Path:
        return self.path / f"seed-{self.seed}"

    def do(self, hear: Hear, workers: Workers) -> None:
        from edgebrush.learning.launcher import train

        train(
            self.scenario,
            self.algorithm,
            self.config,
            [self.seed],
            self.path,
            self.prices,
            lambda row: hear(row["share"]),
            workers,
        )
