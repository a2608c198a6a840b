"""The plan of a study, and its findings, from which all figures and tables are made.

Where jobs failed, the findings hold less: fewer training seeds, policies or points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgebrush.evaluation.aggregates import aggregate, interquartile_mean, mean, probability_of_improvement
from edgebrush.evaluation.statistics import Digest, mean_of
from edgebrush.jobs.executor import Failure
from edgebrush.policies.rules import KINDS
from edgebrush.scenario.schema import Scenario
from edgebrush.tuning.cmaes import Budget

from .variations import Ablation, FixedDecision

SUBJECT, BEST_RULE = "mappo", "priced-greedy"  # the learner that the study is about, and the rule to beat
BUDGET = Budget(
    1280, 32
)  # finds a cost of 0.3759 for priced-greedy on campus; 5,000 evaluations of 64 episodes: 0.3756


@dataclass(frozen=True)
class Plan:
    """How much a study trains, tunes and plays."""

    seeds: int = 10  # trainings of each learner on the scenario itself, and of each ablation
    point_seeds: int = 2  # trainings of each learner at each point of a sweep
    decisions: int = 1_000_000  # of each training on the scenario itself
    point_decisions: int = 400_000  # of each training at a point of a sweep
    factors: int = 3  # points of each sweep, besides the unchanged scenario
    episodes: int | None = None  # held-out episodes on the scenario itself; None: as many as ``compare`` plays
    point_episodes: int = 128  # held-out episodes at each point of a sweep
    budget: Budget = BUDGET  # of the search of the rules' parameters


QUICK_PLAN = Plan(2, 1, 200_000, 80_000, 1, 64, 32, Budget(64, 8))


@dataclass
class Findings:
    """What figures and tables are made from."""

    scenario: Scenario
    plan: Plan
    learners: list[str]
    results: dict  # the content of results.json
    played: dict[str, list[Digest]]  # on the scenario itself: by policy, one digest per training seed
    means: dict[str, dict[str, list[dict[str, float]]]]  # by variation and policy: metrics of each training seed
    variations: dict[str, list[Scenario]]  # by sweep; the unchanged scenario is one of them
    curves: dict[str, list[list[dict[str, float]]]]  # by learner and training seed
    rule_validation_cost: float | None  # of the best rule, on the episodes of the curves' ``validation_cost``
    ablations: list[Ablation]
    fixed_costs: list[tuple[FixedDecision, float]]  # cost of the best rule, tuned anew, on validation episodes
    failures: list[Failure]  # the jobs whose results are missing

    @property
    def comparable(self) -> bool:
        """Whether there are the learner that the study is about and the rule to beat."""
        return SUBJECT in self.played and BEST_RULE in self.played

    @property
    def policies(self) -> list[str]:
        """The learners and rules that were played on the scenario itself."""
        return [*self.learners, *(name for name in KINDS if name in self.played)]

    @property
    def complete_points(self) -> list[str]:
        """The variations on which every one of ``policies`` has all its runs."""
        runs = {name: self.plan.point_seeds if name in self.learners else 1 for name in self.policies}
        return [
            variation
            for variation, means in self.means.items()
            if all(len(means.get(name, ())) == count for name, count in runs.items())
        ]

    def costs(self, policy: str) -> np.ndarray:
        """Mean cost per task of each training seed ``(S,)`` on the scenario itself."""
        return np.array([mean_of(digest, "cost") for digest in self.played[policy]])

    def relative_runs(self) -> dict[str, np.ndarray]:
        """By policy ``(S, P)``: cost of S seeds on the P complete points, divided by the best rule's cost on each."""
        return {
            policy: np.stack([self.relative(variation, policy) for variation in self.complete_points], 1)
            for policy in self.policies
        }

    def relative(self, variation: str, policy: str) -> np.ndarray:
        """Cost of each training seed ``(S,)`` on a variation, divided by the best rule's cost there."""
        runs, rule = (self.means[variation].get(name, []) for name in (policy, BEST_RULE))
        return np.array([run["cost"] for run in runs]) / rule[0]["cost"]

    def aggregates(self) -> dict[str, dict]:
        """Statistics over the trainings of each policy on the scenario itself, see ``evaluation.aggregates``.

        A rule has no training seeds: its interval is that of its mean over episodes. Empty where nothing is comparable.
        """
        if not self.comparable:
            return {}
        ours, aggregates = self.costs(SUBJECT)[:, None], {}
        for policy, metrics in self.results["policies"].items():
            runs = self.costs(policy)[:, None]
            rule = policy in KINDS
            aggregates[policy] = {
                "seeds": 0 if rule else len(runs),
                "mean": metrics["cost"] if rule else aggregate(mean, runs)._asdict(),
                "interquartile_mean": metrics["cost"] if rule else aggregate(interquartile_mean, runs)._asdict(),
                "mappo_is_cheaper": aggregate(probability_of_improvement, ours, runs)._asdict(),
            }
        return aggregates
