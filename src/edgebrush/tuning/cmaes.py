"""The search behind all tuning: CMA-ES (Hansen 2016) with common random numbers on tuning episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import cma
import numpy as np

from edgebrush.sim.episode_seeds import TUNING_SEEDS, VALIDATION_SEEDS

POPULATION = 16


@dataclass(frozen=True)
class Budget:
    """What the priced greedy rule's search may spend; rules of 2 or 3 numbers need less."""

    evaluations: int
    episodes: int  # of each evaluation

    def of(self, numbers: int) -> Budget:
        """The budget of a rule with so many numbers."""
        fewer = min(self.evaluations, max(FEWEST, self.evaluations // 16))
        return self if numbers > 3 else Budget(fewer if numbers else 0, self.episodes)

    def __str__(self) -> str:
        return f"{self.evaluations} evaluations of {self.episodes} episodes"


FEWEST = 160  # evaluations of a rule with 2 or 3 numbers


class Table(Protocol):
    """Plays many settings of a policy's numbers on the same episodes."""

    seeds: np.ndarray

    def costs(self, numbers: Sequence[np.ndarray]) -> np.ndarray:
        """Mean cost per task ``(settings,)`` of each row of ``numbers``."""
        ...


def search(
    start: np.ndarray,
    spread: np.ndarray,
    table_of: Callable[[np.ndarray, int], Table],
    budget: Budget,
    progress: Callable[[float], None],
) -> tuple[np.ndarray, list[float], list[dict]]:
    """The best numbers found from ``start``, each tried about ``spread`` away from it at first.

    ``table_of(seeds, settings)`` makes the table. Also returns the costs on validation seeds, of the start and, where
    anything may be spent, of the search's favourite, and one row of the log per generation.
    """
    tried, log = [start], []
    if budget.evaluations:
        options = {"popsize": POPULATION, "seed": 1, "CMA_stds": spread, "verbose": -9}
        strategy = cma.CMAEvolutionStrategy(start, 1.0, options)
        table = table_of(np.arange(budget.episodes), POPULATION)
        for generation in range(budget.evaluations // POPULATION):
            table.seeds = TUNING_SEEDS + np.arange(budget.episodes) + generation * budget.episodes
            candidates = strategy.ask()
            costs = table.costs(candidates)
            strategy.tell(candidates, costs)
            done = (generation + 1) * POPULATION
            log.append({"evaluations": done, "best": costs.min(), "mean": costs.mean(), "sigma": strategy.sigma})
            progress(done / budget.evaluations)
        tried.append(strategy.result.xfavorite)
    validated = table_of(VALIDATION_SEEDS + np.arange(256), len(tried)).costs(tried)
    return tried[int(np.argmin(validated))], validated.tolist(), log
