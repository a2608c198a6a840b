"""The runner of a study: it makes the jobs phase by phase, runs them, and collects the findings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.evaluation.episodes import RuleEvaluator
from edgebrush.evaluation.results import Stopwatch, results_of
from edgebrush.evaluation.run_folder import load_curve
from edgebrush.jobs.executor import Executor, Failure, Job, run_jobs
from edgebrush.jobs.training import TrainingJob
from edgebrush.learning import CURVE
from edgebrush.learning.registry import configure, tuned_settings
from edgebrush.policies.load import shipped_rules
from edgebrush.policies.rules import KINDS, Rule, tunable_parameters
from edgebrush.progress import ProgressCallback
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.episode_seeds import VALIDATION_SEEDS

from .findings import BEST_RULE, Findings, Plan
from .jobs import PlayJob, TuningJob, VariationPlayJob
from .variations import SWEEPS, Ablation, FixedDecision, ablations, fixed_decisions, fixed_step_counts, unchanged


class StudyRunner:
    """Runs the jobs of one study; results that are in the cache are not made again."""

    def __init__(
        self,
        scenario: Scenario,
        plan: Plan,
        cache: Path,
        executor: Executor,
        progress: ProgressCallback,
        stopwatch: Stopwatch,
    ):
        self.scenario, self.plan, self.cache, self.executor = scenario, plan, cache, executor
        self.progress, self.stopwatch = progress, stopwatch
        self.trainings: list[TrainingJob] = []  # on the scenario itself, and of the ablations
        self.jobs_run: dict[str, int] = {}  # by phase, the jobs that finished and were not in the cache
        self.failures: list[Failure] = []

    def run(self, learners: Sequence[str], sweeps: Sequence[str], *, ablate: bool, fix: bool) -> Findings:
        """Tune, train and play all that these learners and sweeps need, with ablations and fixed decisions or not.

        What depends on a failed job is missing in the findings, which list the failures.
        """
        base, plan = self.scenario, self.plan
        by_sweep = {name: self._variations(name) for name in sweeps}
        variations = {each.name: each for group in by_sweep.values() for each in group}
        fixed = list(fixed_decisions(base)) if fix else []
        ablated = self._tune([base, *variations.values()], fixed, ablate)
        plays, variation_plays = self._train(learners, list(variations.values()), ablated)
        plays += self._rule_plays(PlayJob, base)
        for variation in variations.values():
            variation_plays += self._rule_plays(VariationPlayJob, variation)
        self._run([*plays, *variation_plays], "playing held-out episodes")
        played = _read_by_policy(plays)
        means = {
            name: _read_by_policy([play for play in variation_plays if play.scenario is variation])
            for name, variation in variations.items()
        }
        means = {name: each for name, each in means.items() if BEST_RULE in each}  # costs are relative to it
        tuned = [(each, self._tuning(each.scenario(base), BEST_RULE)) for each in fixed]
        return Findings(
            scenario=base,
            plan=plan,
            learners=[name for name in learners if name in played],
            results=results_of(base, played, plan.episodes or 0, "", {}) if played else {},
            played=played,
            means=means,
            variations={name: [each for each in group if each.name in means] for name, group in by_sweep.items()},
            curves=self._curves(learners),
            rule_validation_cost=self._validation_cost(),
            ablations=[each for each in ablated if each.name in played],
            fixed_costs=[(each, job.read()[1]) for each, job in tuned if job.done],
            failures=self.failures,
        )

    def training_s(self) -> dict[str, float]:
        """Mean seconds of a training on the scenario itself by learner, compilation included."""
        seconds: dict[str, list[float]] = {}
        for job in self.trainings:
            if job.scenario is self.scenario and job.done:
                seconds.setdefault(job.name, []).append(load_curve(job.path / CURVE)[-1]["seconds"])
        return {name: round(float(np.mean(each)), 1) for name, each in seconds.items()}

    def _run(self, jobs: Sequence[Job], phase: str) -> None:
        with self.stopwatch(phase):
            outcome = run_jobs(jobs, self.executor, phase, self.progress)
        self.jobs_run[phase] = outcome.finished
        self.failures += outcome.failures

    def _variations(self, name: str) -> list[Scenario]:
        sweep = SWEEPS[name]
        factors = sweep.factors[: self.plan.factors]
        return [unchanged(self.scenario), *(sweep.variation(self.scenario, factor) for factor in factors)]

    def _tune(self, scenarios: Sequence[Scenario], fixed: Sequence[FixedDecision], ablate: bool) -> list[Ablation]:
        """Tune all rules on all scenarios, and the best rule for fixed decisions and ablations; returns the latter.

        The ablation without a choice of steps fixes the number with which the best rule is cheapest.
        """
        base, grid = self.scenario, self.scenario.decision.step_grid
        one_step_count = [each.scenario(base) for each in fixed_step_counts(base)] if ablate else []
        others = [each.scenario(base) for each in ablations(grid[0])[1:]] if ablate else []
        rules = [(scenario, name) for scenario in scenarios for name in KINDS]
        rules += [(each.scenario(base), BEST_RULE) for each in fixed]
        rules += [(scenario, BEST_RULE) for scenario in (*one_step_count, *others)]
        jobs = [self._tuning(scenario, name) for scenario, name in rules if not _shipped(scenario)]
        self._run(jobs, "tuning the rules")
        if not ablate:
            return []
        tuned = [self._tuning(scenario, BEST_RULE) for scenario in one_step_count]
        costs = [job.read()[1] if job.done else np.inf for job in tuned]
        return list(ablations(grid[int(np.argmin(costs))]))

    def _train(
        self, learners: Sequence[str], variations: Sequence[Scenario], ablated: Sequence[Ablation]
    ) -> tuple[list[PlayJob], list[PlayJob]]:
        """Train all learners and ablations; returns the jobs that play them: on the scenario, and on the variations."""
        base, plan = self.scenario, self.plan
        trained: list[tuple[Scenario, str, str, dict[str, Any]]] = [(base, name, name, {}) for name in learners]
        trained += [
            (each.scenario(base), each.name, each.algorithm, each.settings)
            for each in ablated
            if each.name not in learners  # an algorithm that is also a learner of the study
        ]
        self.trainings = [job for each in trained for job in self._trainings(*each, plan.seeds, plan.decisions)]
        on_variations = [
            job
            for variation in variations
            for name in learners
            for job in self._trainings(variation, name, name, {}, plan.point_seeds, plan.point_decisions)
        ]
        plays = [self._play(PlayJob, base, job) for job in self.trainings]
        variation_plays = [self._play(VariationPlayJob, job.scenario, job) for job in on_variations]
        # A variation's policy is needed only until it has been played; curves of the scenario itself are drawn.
        needed = [job for job, play in zip(on_variations, variation_plays, strict=True) if not play.done]
        self._run([*self.trainings, *needed], "training the learners")
        return [play for play in plays if play.ready], [play for play in variation_plays if play.ready]

    def _tuning(self, scenario: Scenario, rule: str) -> TuningJob:
        parameters = tunable_parameters(KINDS[rule], scenario.bs_count)
        return TuningJob(scenario, rule, self.plan.budget.for_parameters(len(parameters)), self.cache)

    def _rule(self, scenario: Scenario, name: str) -> Rule | None:
        """A rule with the parameters that ship with a preset, else as it was tuned; None where that failed."""
        shipped, job = _shipped(scenario), self._tuning(scenario, name)
        if shipped:
            return shipped[name]
        return job.read()[0] if job.done else None

    def _trainings(
        self, scenario: Scenario, name: str, algorithm: str, settings: dict[str, Any], count: int, decisions: int
    ) -> list[TrainingJob]:
        """Trainings with seeds 1 to ``count``; none where the rule is missing with whose prices they start."""
        rule = self._rule(scenario, BEST_RULE)
        if rule is None:
            return []
        chosen = tuned_settings(self.scenario.name, algorithm) | settings
        config = configure(algorithm, chosen, seconds=None, decisions=decisions)
        return [
            TrainingJob(scenario, name, algorithm, config, seed, rule.parameters, self.cache) for seed in seeds(count)
        ]

    def _rule_plays(self, kind: type[PlayJob], scenario: Scenario) -> list[PlayJob]:
        """Play every rule that could be tuned."""
        rules = [self._rule(scenario, name) for name in KINDS]
        return [self._play(kind, scenario, rule) for rule in rules if rule]

    def _play(self, kind: type[PlayJob], scenario: Scenario, source: Rule | TrainingJob) -> PlayJob:
        """Play a policy; one of an ablation plays in the scenario that it was trained in."""
        episodes = self.plan.point_episodes if kind is VariationPlayJob else self.plan.episodes
        world = source.scenario if isinstance(source, TrainingJob) else scenario
        return kind(world, source.name, source, episodes or 0, self.cache)

    def _curves(self, learners: Sequence[str]) -> dict[str, list[list[dict[str, float]]]]:
        jobs = [job for job in self.trainings if job.scenario is self.scenario and job.done]
        return {name: [load_curve(job.path / CURVE) for job in jobs if job.name == name] for name in learners}

    def _validation_cost(self) -> float | None:
        """The best rule's cost on the episodes on which trainings are validated; None where it could not be tuned."""
        from edgebrush.learning.rollout import VALIDATION_EPISODES

        rule = self._rule(self.scenario, BEST_RULE)
        if rule is None:
            return None
        episodes = VALIDATION_SEEDS + np.arange(VALIDATION_EPISODES)
        return float(RuleEvaluator(self.scenario, rule.name, episodes, 1).costs([rule.parameters])[0])


def seeds(count: int) -> range:
    """Training seeds 1, 2, ..."""
    return range(1, 1 + count)


def _shipped(scenario: Scenario) -> dict[str, Rule]:
    return {rule.name: rule for rule in shipped_rules(scenario) or ()}


def _read_by_policy(plays: Sequence[PlayJob]) -> dict[str, list]:
    """The results of the plays that did not fail, by the policy's name."""
    results: dict[str, list] = {}
    for play in plays:
        if play.done:
            results.setdefault(play.name, []).append(play.read())
    return results
