"""The job that trains one seed of a learner."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgebrush.jobs.executor import Processes
from edgebrush.jobs.keys import cache_key, contents_key
from edgebrush.learning import CHECKPOINT, CURVE
from edgebrush.progress import ShareCallback
from edgebrush.scenario.schema import Scenario


@dataclass(frozen=True)
class TrainingJob:
    """Train one seed of a learner on a scenario. An interrupted training resumes from its checkpoint."""

    scenario: Scenario
    name: str  # of the policy, in tables and figures
    algorithm: str
    config: Any
    seed: int
    prices: np.ndarray  # parameters of the tuned priced-greedy rule, from which the learner starts
    cache: Path

    @property
    def title(self) -> str:
        return f"{self.name} seed {self.seed} on {self.scenario.name}"

    @cached_property
    def path(self) -> Path:
        parts = (contents_key(self.scenario), self.algorithm, asdict(self.config), self.seed, self.prices.tolist())
        return self.cache / "trainings" / cache_key(*parts)

    @property
    def done(self) -> bool:
        return (self.path / CURVE).is_file() and not (self.path / CHECKPOINT).exists()

    @property
    def policy(self) -> Path:
        """The folder of the trained policy."""
        return self.path / f"seed-{self.seed}"

    @property
    def inputs(self) -> list[Path]:
        return []

    def moved(self, scenario: Scenario, cache: Path) -> Self:
        return replace(self, scenario=scenario, cache=cache)

    def run(self, on_progress: ShareCallback, processes: Processes) -> None:
        from edgebrush.learning.launcher import train

        train(
            self.scenario,
            self.algorithm,
            self.config,
            [self.seed],
            self.path,
            self.prices,
            lambda row: on_progress(row["share"]),
            processes,
        )
