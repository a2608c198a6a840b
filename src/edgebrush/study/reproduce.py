"""The study: every learner and every rule on a scenario, and on it with one thing more or less of, or taken away.

Rules are tuned and learners trained anew at every point, as their users would, each learner with the same number
of decisions; all policies of a point meet the same held-out episodes. The folder of a study can be interrupted and
taken up again: what is done is in its ``cache`` (see ``units``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.errors import UserError
from edgebrush.evaluation.episodes import RuleTable
from edgebrush.evaluation.held_out import default_episodes
from edgebrush.evaluation.results import Stopwatch, results_of
from edgebrush.evaluation.run_folder import RESULTS, load_curve, store_scenario
from edgebrush.files import check_writable, write_text
from edgebrush.jobs.executor import Unit, work_off
from edgebrush.jobs.training import TrainingUnit
from edgebrush.learning import CURVE
from edgebrush.learning.registry import ALGORITHMS, algorithm_of, configure, tuned_settings
from edgebrush.policies.load import shipped_rules
from edgebrush.policies.rules import KINDS, Rule, numbers_of
from edgebrush.progress import ProgressCallback, no_progress
from edgebrush.scenario.parameters import build_params
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.episode_seeds import VALIDATION_SEEDS

from .figures import FIGURES, draw
from .findings import BEST_RULE, SUBJECT, Findings, Plan
from .jobs import PlayUnit, PointUnit, RuleUnit
from .tables import tables, write_tables
from .variations import SWEEPS, Ablation, ablations, as_it_is

STUDY, CACHE = "study.json", "cache"


def reproduce(
    scenario: Scenario,
    out: Path | str,
    plan: Plan = Plan(),
    *,
    figures: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    jobs: int,
    command: str = "edgebrush reproduce",
    progress: ProgressCallback = no_progress,
) -> Findings:
    """Do the study, or go on with it; ``out`` then holds figures with their CSV, tables and ``results.json``.

    ``figures`` and ``algorithms``: these alone, by name; none means all. ``jobs`` units of work are done at once.
    Raises ``UserError`` before any long work where a name is not known or ``out`` cannot be used.
    """
    figures, algorithms = _asked(figures, algorithms)
    build_params(scenario)
    plan = replace(plan, episodes=plan.episodes or default_episodes(scenario))
    folder = _opened(Path(out))
    stopwatch, started = Stopwatch(), _now()
    about: dict = {
        "command": command,
        "started": started,
        "finished": None,
        "scenario": scenario.name,
        "plan": asdict(plan),
        "figures": list(figures),
        "algorithms": list(algorithms),
    }
    write_text(folder / STUDY, json.dumps(about, indent=2))
    store_scenario(scenario, folder)
    work = _Work(scenario, plan, folder / CACHE, jobs, progress, stopwatch)
    found = work.findings(algorithms, [name for name in SWEEPS if _needs(figures, name)], "ablations" in figures)
    found.results |= {"command": command, "aggregates": found.aggregates()}
    with stopwatch("report"):
        for number, name in enumerate(figures):
            progress("drawing figures", number / len(figures), name)
            draw(name, found, folder / "figures")
        write_tables(tables(found), found, figures, folder)
    found.results["timings_s"] = stopwatch.seconds
    write_text(folder / RESULTS, json.dumps(found.results, indent=2))
    about |= {"finished": _now(), "training_seeds": list(_seeds(plan.seeds)), "done_anew": work.done_anew}
    about |= {key: found.results[key] for key in ("versions", "machine", "timings_s")}
    about["training_s"] = work.training_s()
    write_text(folder / STUDY, json.dumps(about, indent=2))
    progress("drawing figures", 1.0, "")
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _asked(figures: Sequence[str], algorithms: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for figure in figures:
        if figure not in FIGURES:
            raise UserError(f"figure = {figure!r}: not known; it must be one of {', '.join(FIGURES)}")
    for name in algorithms:
        algorithm_of(name)
    learners = tuple(name for name in ALGORITHMS if not algorithms or name in (*algorithms, SUBJECT))
    return tuple(name for name in FIGURES if not figures or name in figures), learners


def _needs(figures: Sequence[str], sweep: str) -> bool:
    return sweep in figures or "profiles" in figures


def _opened(out: Path) -> Path:
    """The study's folder: new, begun, or a cache from elsewhere. Raises ``UserError`` for anything else."""
    if out.exists() and not out.is_dir():
        raise UserError(f"out = {str(out)!r}: is a file; give a folder")
    if out.is_dir() and any(path.name != CACHE for path in out.iterdir()) and not (out / STUDY).is_file():
        raise UserError(f"out = {str(out)!r}: holds something else than a study; give another folder")
    for folder in (out, out / CACHE):
        check_writable(folder)
    return out


def _seeds(count: int) -> range:
    return range(1, 1 + count)


def _by_policy(units: Sequence[PlayUnit]) -> dict[str, list]:
    """What was played, by the policy's name."""
    read: dict[str, list] = {}
    for unit in units:
        read.setdefault(unit.name, []).append(unit.read())
    return read


def _shipped(point: Scenario) -> dict[str, Rule]:
    return {rule.name: rule for rule in shipped_rules(point) or ()}


class _Work:
    """All units of a study, phase by phase."""

    def __init__(
        self, scenario: Scenario, plan: Plan, home: Path, jobs: int, progress: ProgressCallback, stopwatch: Stopwatch
    ):
        self.scenario, self.plan, self.home, self.jobs = scenario, plan, home, jobs
        self.progress, self.stopwatch = progress, stopwatch
        self.trainings: list[TrainingUnit] = []
        self.done_anew: dict[str, int] = {}  # units of each phase that were not in the cache

    def findings(self, learners: Sequence[str], sweeps: Sequence[str], ablate: bool) -> Findings:
        base, plan = self.scenario, self.plan
        points = {
            name: [as_it_is(base), *(SWEEPS[name].at(base, factor) for factor in SWEEPS[name].factors[: plan.factors])]
            for name in sweeps
        }
        swept = {point.name: point for group in points.values() for point in group}
        removed = self._tune([base, *swept.values()], ablate)
        asked: list[tuple[Scenario, str, str, dict[str, Any]]] = [(base, name, name, {}) for name in learners]
        asked += [
            (each.world(base), each.name, each.algorithm, each.settings)
            for each in removed
            if each.name not in learners  # an algorithm that is a rival, too
        ]
        self.trainings = [self._training(*each, seed, plan.decisions) for each in asked for seed in _seeds(plan.seeds)]
        at_points = [
            self._training(point, name, name, {}, seed, plan.point_decisions)
            for point in swept.values()
            for name in learners
            for seed in _seeds(plan.point_seeds)
        ]
        plays = [self._play(PlayUnit, base, made) for made in self.trainings]
        point_plays = [self._play(PointUnit, made.scenario, made) for made in at_points]
        wanted = [made for made, play in zip(at_points, point_plays, strict=True) if not play.done]
        self._do([*self.trainings, *wanted], "training the learners")
        plays += [self._play(PlayUnit, base, self._rule(base, name)) for name in KINDS]
        for point in swept.values():
            point_plays += [self._play(PointUnit, point, self._rule(point, name)) for name in KINDS]
        self._do([*plays, *point_plays], "playing held-out episodes")
        played = _by_policy(plays)
        means = {
            name: _by_policy([play for play in point_plays if play.scenario is point]) for name, point in swept.items()
        }
        return Findings(
            base,
            plan,
            list(learners),
            results_of(base, played, plan.episodes or 0, "", {}),
            played,
            means,
            points,
            self._curves(learners),
            self._validated(self._rule(base, BEST_RULE)),
            removed,
        )

    def _do(self, units: Sequence[Unit], phase: str) -> None:
        with self.stopwatch(phase):
            self.done_anew[phase] = work_off(units, self.jobs, phase, self.progress)

    def _tune(self, points: list[Scenario], ablate: bool) -> list[Ablation]:
        """Tune all rules at all points, and the best rule in every ablation's world; what is to be taken away.

        The single step count that MAPPO is left with is the one at which that rule is cheapest.
        """
        grid = self.scenario.decision.step_grid
        frozen = [ablations(steps)[0].world(self.scenario) for steps in grid] if ablate else []
        worlds = [each.world(self.scenario) for each in ablations(grid[0])[1:]] if ablate else []
        asked = [(point, name) for point in points for name in KINDS]
        asked += [(world, BEST_RULE) for world in (*frozen, *worlds)]
        self._do([self._search(point, name) for point, name in asked if not _shipped(point)], "tuning the rules")
        if not ablate:
            return []
        costs = [self._search(world, BEST_RULE).read()[1] for world in frozen]
        return list(ablations(grid[int(np.argmin(costs))]))

    def _search(self, point: Scenario, name: str) -> RuleUnit:
        numbers = numbers_of(KINDS[name], point.bs_count)
        return RuleUnit(point, name, self.plan.budget.of(len(numbers)), self.home)

    def _rule(self, point: Scenario, name: str) -> Rule:
        """A rule at a point: as it ships with a preset, else as it was tuned."""
        shipped = _shipped(point)
        return shipped[name] if shipped else self._search(point, name).read()[0]

    def _training(
        self, world: Scenario, name: str, algorithm: str, settings: dict[str, Any], seed: int, decisions: int
    ) -> TrainingUnit:
        chosen = tuned_settings(self.scenario.name, algorithm) | settings
        config = configure(algorithm, chosen, seconds=None, decisions=decisions)
        prices = self._rule(world, BEST_RULE).numbers
        return TrainingUnit(world, name, algorithm, config, seed, prices, self.home)

    def _play(self, kind: type[PlayUnit], point: Scenario, made: Rule | TrainingUnit) -> PlayUnit:
        episodes = self.plan.point_episodes if kind is PointUnit else self.plan.episodes
        world = made.scenario if isinstance(made, TrainingUnit) else point
        return kind(world, made.name, made, episodes or 0, self.home)

    def _curves(self, learners: Sequence[str]) -> dict[str, list[list[dict[str, float]]]]:
        at_base = [unit for unit in self.trainings if unit.scenario is self.scenario]
        return {name: [load_curve(unit.path / CURVE) for unit in at_base if unit.name == name] for name in learners}

    def _validated(self, rule: Rule) -> float:
        from edgebrush.learning.rollout import VALIDATION_EPISODES

        seeds = VALIDATION_SEEDS + np.arange(VALIDATION_EPISODES)
        return float(RuleTable(self.scenario, rule.name, seeds, 1).costs([rule.numbers])[0])

    def training_s(self) -> dict[str, float]:
        """Mean seconds of a training on the scenario itself, compilation included, by learner."""
        taken: dict[str, list[float]] = {}
        for unit in self.trainings:
            if unit.scenario is self.scenario:
                taken.setdefault(unit.name, []).append(load_curve(unit.path / CURVE)[-1]["seconds"])
        return {name: round(float(np.mean(seconds)), 1) for name, seconds in taken.items()}
