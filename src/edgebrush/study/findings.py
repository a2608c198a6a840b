"""What a study is asked for, and what it found: all that its figures and tables are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgebrush.evaluation.aggregates import aggregate, interquartile_mean, mean, probability_of_improvement
from edgebrush.evaluation.statistics import Digest, mean_of
from edgebrush.policies.rules import KINDS
from edgebrush.scenario.schema import Scenario
from edgebrush.tuning.cmaes import Budget

from .variations import Ablation

SUBJECT, BEST_RULE = "mappo", "priced-greedy"  # whom the study is about, and the rule to beat
BUDGET = Budget(1280, 32)  # on campus it finds 0.3759 for priced-greedy, 5,000 evaluations of 64 episodes 0.3756


@dataclass(frozen=True)
class Plan:
    """How much work a study is."""

    seeds: int = 10  # trainings of each learner on the scenario itself, and of each ablation
    point_seeds: int = 2  # and at each point of a sweep
    decisions: int = 1_000_000  # of each training
    point_decisions: int = 400_000  # and at each point of a sweep
    factors: int = 3  # points of each sweep, besides the scenario as it is
    episodes: int | None = None  # held out, on the scenario itself; None: as many as ``compare`` plays
    point_episodes: int = 128
    budget: Budget = BUDGET  # of the rules' search at each point


QUICK = Plan(2, 1, 200_000, 80_000, 1, 64, 32, Budget(64, 8))


@dataclass
class Findings:
    """What the figures and tables are made from."""

    scenario: Scenario
    plan: Plan
    learners: list[str]
    results: dict  # results.json
    played: dict[str, list[Digest]]  # on the scenario itself, by policy: a digest for each training seed
    means: dict[str, dict[str, list[dict[str, float]]]]  # by point of a sweep and policy: of each training seed
    points: dict[str, list[Scenario]]  # by sweep, the scenario as it is among them
    curves: dict[str, list[list[dict[str, float]]]]  # by learner and training seed
    validated: float  # the best rule's cost on the episodes of the curves
    removed: list[Ablation]

    def costs(self, policy: str) -> np.ndarray:
        """Mean cost per task of each training seed ``(S,)`` on the scenario itself."""
        return np.array([mean_of(digest, "cost") for digest in self.played[policy]])

    def relative_runs(self) -> dict[str, np.ndarray]:
        """For each learner and rule ``(S, P)``: its cost as a multiple of the best rule's at the same point."""
        return {
            policy: np.stack([self.relative(point, policy) for point in self.means], 1)
            for policy in (*self.learners, *KINDS)
        }

    def relative(self, point: str, policy: str) -> np.ndarray:
        """At a point of a sweep, for each training seed ``(S,)``: its cost as a multiple of the best rule's there."""
        runs, rule = (self.means[point][name] for name in (policy, BEST_RULE))
        return np.array([run["cost"] for run in runs]) / rule[0]["cost"]

    def aggregates(self) -> dict[str, dict]:
        """What each policy's trainings on the scenario itself come to, see ``aggregates``.

        A rule has no training seeds: its interval is that of its mean, over episodes.
        """
        ours, summed = self.costs(SUBJECT)[:, None], {}
        for policy, figures in self.results["policies"].items():
            runs = self.costs(policy)[:, None]
            rule = policy in KINDS
            summed[policy] = {
                "seeds": 0 if rule else len(runs),
                "mean": figures["cost"] if rule else aggregate(mean, runs)._asdict(),
                "interquartile_mean": figures["cost"] if rule else aggregate(interquartile_mean, runs)._asdict(),
                "mappo_is_cheaper": aggregate(probability_of_improvement, ours, runs)._asdict(),
            }
        return summed
