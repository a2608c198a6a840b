"""CMA-ES (Hansen 2016) over the parameters of a policy, with common random numbers on tuning episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cma
import numpy as np

from edgebrush.progress import ShareCallback
from edgebrush.sim.episode_seeds import TUNING_SEEDS, VALIDATION_SEEDS

POPULATION = 16
VALIDATION_EPISODES = 256
MIN_EVALUATIONS = 160  # of a rule with 2 or 3 parameters


@dataclass(frozen=True)
class Budget:
    """How many evaluations the search of priced-greedy has; rules with 2 or 3 parameters need fewer."""

    evaluations: int
    episodes: int  # of each evaluation

    def for_parameters(self, count: int) -> Budget:
        """The budget of a rule with ``count`` parameters."""
        if count > 3:
            return self
        fewer = min(self.evaluations, max(MIN_EVALUATIONS, self.evaluations // 16))
        return Budget(fewer if count else 0, self.episodes)

    def __str__(self) -> str:
        return f"{self.evaluations} evaluations of {self.episodes} episodes"


class Evaluator(Protocol):
    """Plays one policy with many settings of its parameters on the same episodes."""

    seeds: np.ndarray  # of the episodes; may be replaced between calls

    def costs(self, settings: Sequence[np.ndarray]) -> np.ndarray:
        """Mean cost per task ``(S,)`` of each of ``S`` parameter vectors."""
        ...


@dataclass(frozen=True)
class SearchResult:
    """What a search returns."""

    parameters: np.ndarray  # the better of start and favourite, on validation episodes
    costs: list[float]  # on validation episodes: of the start and, if the budget is not 0, of the favourite
    log: list[dict[str, Any]]  # one row per generation


def cma_search(
    start: np.ndarray,
    spread: np.ndarray,
    make_evaluator: Callable[[np.ndarray, int], Evaluator],
    budget: Budget,
    progress: ShareCallback,
) -> SearchResult:
    """Search parameters from ``start`` with initial standard deviations ``spread``.

    ``make_evaluator(seeds, settings)`` makes what evaluates up to ``settings`` candidates on the episodes of
    ``seeds``. Each generation plays new tuning episodes, the same ones for all its candidates, so the search neither
    overfits a set of episodes nor prefers a lucky candidate.
    """
    candidates, log = [start], []
    if budget.evaluations:
        options = {"popsize": POPULATION, "seed": 1, "CMA_stds": spread, "verbose": -9}
        strategy = cma.CMAEvolutionStrategy(start, 1.0, options)
        evaluator = make_evaluator(np.arange(budget.episodes), POPULATION)
        for generation in range(budget.evaluations // POPULATION):
            evaluator.seeds = TUNING_SEEDS + np.arange(budget.episodes) + generation * budget.episodes
            population = strategy.ask()
            costs = evaluator.costs(population)
            strategy.tell(population, costs)
            done = (generation + 1) * POPULATION
            log.append({"evaluations": done, "best": costs.min(), "mean": costs.mean(), "sigma": strategy.sigma})
            progress(done / budget.evaluations)
        candidates.append(strategy.result.xfavorite)
    validation_seeds = VALIDATION_SEEDS + np.arange(VALIDATION_EPISODES)
    validated = make_evaluator(validation_seeds, len(candidates)).costs(candidates)
    return SearchResult(candidates[int(np.argmin(validated))], validated.tolist(), log)
