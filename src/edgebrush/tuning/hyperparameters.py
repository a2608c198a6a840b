"""Equal search of the learners' hyperparameters: the same number of trials, of the same lengths, for each.

Successive halving (Jamieson and Talwalkar 2016) of randomly drawn settings, which are hard to beat with few trials
(Bergstra and Bengio 2012). The first setting has the defaults, the others are drawn from the algorithm's grid by a
Sobol sequence. All of them get short trainings with three seeds each; the best third gets trainings three times as
long, and so on; the last rung has the study's length. The defaults reach every rung, so what replaces them has beaten
them at that length. Policies are evaluated on validation episodes. A CSV log keeps every training, so an interrupted
search resumes, and a later one can add algorithms.
"""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.stats import qmc

from edgebrush.errors import UserError
from edgebrush.evaluation.episodes import play
from edgebrush.evaluation.run_folder import load_curve
from edgebrush.files import check_writable, write_csv, write_text
from edgebrush.jobs.executor import Executor, Processes, run_jobs
from edgebrush.jobs.training import TrainingJob
from edgebrush.learning import CURVE
from edgebrush.learning.registry import ALGORITHMS, algorithm_of, configure
from edgebrush.policies.load import load_policy
from edgebrush.progress import ProgressCallback, ShareCallback, no_progress
from edgebrush.scenario.load import fields_hash
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.episode_seeds import VALIDATION_SEEDS
from edgebrush.tuning.rules import start_prices

TRIAL_EPISODES = 128  # validation episodes
SEEDS = (1, 2, 3)  # of every trial
SHARE = 3  # one in so many settings reaches the next rung, where trainings are that many times as long
FINALISTS = 3  # settings that reach the last rung, the defaults among them
SEED_NOISE = 0.003  # relative difference between two seeds of the same settings: a smaller gain means nothing

Settings = dict[str, Any]


class Rung(NamedTuple):
    """A round of trials of the same length."""

    trials: int
    decisions: int  # of every training


def rungs(trials: int, decisions: int) -> list[Rung]:
    """The rungs of a search with so many settings whose last trainings last ``decisions``."""
    counts = [trials]
    while counts[-1] > FINALISTS:
        counts.append(max(FINALISTS, -(-counts[-1] // SHARE)))
    return [Rung(count, decisions // SHARE ** (len(counts) - 1 - n)) for n, count in enumerate(counts)]


def trial_settings(algorithm: str, trials: int) -> list[Settings]:
    """The settings of each trial, all different; those of the first are the defaults.

    Raises ``UserError`` where the algorithm's grid has fewer settings than ``trials``.
    """
    grid = algorithm_of(algorithm).search_grid
    size = math.prod(len(values) for values in grid.values())
    if trials > size:
        raise UserError(f"trials = {trials}: {algorithm} has only {size} settings to try; give fewer")
    defaults = configure(algorithm, {}, seconds=None, decisions=None)
    settings = [{name: getattr(defaults, name) for name in grid}]
    sequence = qmc.Sobol(len(grid), rng=np.random.default_rng(1))
    while len(settings) < trials:
        for point in sequence.random(64):
            axes = zip(point, grid.items(), strict=True)
            drawn = {name: values[int(u * len(values))] for u, (name, values) in axes}
            if drawn not in settings:
                settings.append(drawn)
    return settings[:trials]


class TrialLog:
    """The finished trainings of a search, as rows of a CSV file. Several threads may add rows."""

    def __init__(self, path: Path, scenario: Scenario, decisions: int):
        """Read the log, if there is one. Raises ``UserError`` where it is of another search."""
        self.path, self.lock = path, Lock()
        self.about = {"scenario": fields_hash(scenario), "search_decisions": str(decisions)}
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))
        for row in self.rows:
            if any(row.get(name) != value for name, value in self.about.items()):
                raise UserError(
                    f"{path}: holds trials on another scenario or of a search of {row.get('search_decisions')} "
                    f"decisions, not {decisions}; give another --out"
                )

    def find(self, algorithm: str, settings: Settings, decisions: int, seed: int) -> dict[str, str] | None:
        """The row of a finished training."""
        wanted = {
            "algorithm": algorithm,
            "settings": json.dumps(settings),
            "decisions": str(decisions),
            "seed": str(seed),
        }
        return next((row for row in self.rows if wanted.items() <= row.items()), None)

    def add(self, row: dict[str, Any]) -> None:
        with self.lock:
            self.rows.append({name: str(value) for name, value in (self.about | row).items()})
            self.rows.sort(key=self._order)
            write_csv(self.path, self.rows)

    @staticmethod
    def _order(row: dict[str, str]) -> tuple[int, ...]:
        return list(ALGORITHMS).index(row["algorithm"]), *(int(row[name]) for name in ("decisions", "trial", "seed"))

    def cost(self, algorithm: str, settings: Settings, decisions: int) -> float:
        """The mean cost over the seeds of a finished trial."""
        rows = [self.find(algorithm, settings, decisions, seed) for seed in SEEDS]
        return float(np.mean([float(row["cost"]) for row in rows if row is not None]))

    def holds(self, algorithm: str, tried: Sequence[Settings], decisions: int) -> bool:
        """Whether a rung is finished: every seed of all its settings."""
        return all(self.find(algorithm, each, decisions, seed) is not None for each in tried for seed in SEEDS)

    def promote(self, algorithm: str, tried: Sequence[Settings], decisions: int, count: int) -> list[Settings]:
        """The settings of a finished rung that reach the next one: the defaults, which are the first, and the best."""
        default, *others = tried
        return [default, *sorted(others, key=lambda each: self.cost(algorithm, each, decisions))[: count - 1]]

    def choose(self, algorithm: str, finalists: Sequence[Settings], decisions: int) -> dict[str, Any]:
        """The chosen settings and their cost: the defaults, unless others are cheaper by more than noise.

        ``finalists``: the settings of the last rung, the defaults first.
        """
        costs = [self.cost(algorithm, settings, decisions) for settings in finalists]
        cheapest = int(np.argmin(costs))
        chosen = cheapest if costs[cheapest] < (1.0 - SEED_NOISE) * costs[0] else 0
        return {
            "trainings": sum(row["algorithm"] == algorithm for row in self.rows),
            "settings": finalists[chosen],
            "cost": costs[chosen],
            "default_cost": costs[0],
        }


@dataclass(frozen=True)
class TrialJob:
    """Train one seed with the trial's settings and evaluate its policy. The result is the row of the search's log."""

    training: TrainingJob
    number: int
    settings: Settings
    logged: bool  # whether the log already holds the training

    @property
    def path(self) -> Path:
        return self.training.cache / "trials" / f"{self.training.path.name}.json"

    @property
    def title(self) -> str:
        return f"{self.training.algorithm}, trial {self.number}, seed {self.training.seed}"

    @property
    def done(self) -> bool:
        return self.logged or self.path.is_file()

    @property
    def scenario(self) -> Scenario:
        return self.training.scenario

    @property
    def inputs(self) -> list[Path]:
        return []

    def moved(self, scenario: Scenario, cache: Path) -> Self:
        return replace(self, training=self.training.moved(scenario, cache))

    def run(self, on_progress: ShareCallback, processes: Processes) -> None:
        self.training.run(on_progress, processes)
        policy = load_policy(self.training.policy, self.scenario)
        cost = play(self.scenario, policy, VALIDATION_SEEDS + np.arange(TRIAL_EPISODES))["cost"].mean()
        row = {
            "algorithm": self.training.algorithm,
            "trial": self.number,
            "seed": self.training.seed,
            "decisions": self.training.config.decisions,
            "settings": json.dumps(self.settings),
            "cost": f"{cost:.6f}",
            "seconds": load_curve(self.training.path / CURVE)[-1]["seconds"],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps(row))

    def read(self) -> dict[str, Any]:
        """The row of the log."""
        return json.loads(self.path.read_text(encoding="utf-8"))


def search_hyperparameters(
    scenario: Scenario,
    out: Path,
    *,
    algorithms: Sequence[str] = (),
    trials: int,
    decisions: int,
    executor: Executor,
    command: str,
    progress: ProgressCallback = no_progress,
) -> dict:
    """Search the settings of ``algorithms`` (default: all), ``trials`` for each, as ``rungs`` says.

    ``decisions`` is the length of a training in the last rung. Writes the chosen settings to ``out`` as JSON and
    returns them; the log is beside it (``.csv``). What an earlier search like this one chose for other algorithms stays
    in ``out``. An algorithm with a failed trial has no settings in ``out``, where ``failed_jobs`` lists the failures;
    the same search again tries only what is missing. Raises ``UserError`` before any training where a name is unknown,
    a file cannot be written, or the log is of another search.
    """
    every = {name: trial_settings(name, trials) for name in algorithms or ALGORITHMS}
    check_writable(out.parent)
    log = TrialLog(out.with_suffix(".csv"), scenario, decisions)
    prices = start_prices(scenario, progress)
    tried, failures, plan = dict(every), [], rungs(trials, decisions)
    for number, rung in enumerate(plan, 1):
        with tempfile.TemporaryDirectory(prefix="edgebrush-") as folder:
            jobs = []
            for name, settings in tried.items():
                for values in settings:
                    config = configure(name, values, seconds=None, decisions=rung.decisions)
                    for seed in SEEDS:
                        training = TrainingJob(scenario, name, name, config, seed, prices, Path(folder))
                        logged = log.find(name, values, rung.decisions, seed) is not None
                        jobs.append(TrialJob(training, every[name].index(values), values, logged))
            phase = f"trying settings, rung {number} of {len(plan)}"
            failures += run_jobs(jobs, executor, phase, progress, lambda job: log.add(job.read())).failures
        tried = {name: settings for name, settings in tried.items() if log.holds(name, settings, rung.decisions)}
        if number < len(plan):
            kept = plan[number].trials
            tried = {name: log.promote(name, settings, rung.decisions, kept) for name, settings in tried.items()}
    about = {"scenario": fields_hash(scenario), "decisions": decisions}
    chosen = read_chosen(out, about) | {name: log.choose(name, settings, decisions) for name, settings in tried.items()}
    content = {
        "command": command,
        "date": f"{date.today()}",
        **about,
        "evaluated_on": f"{TRIAL_EPISODES} validation episodes, {len(SEEDS)} seeds",
        "algorithms": {name: chosen[name] for name in ALGORITHMS if name in chosen},
        "failed_jobs": [asdict(failure) for failure in failures],
    }
    write_text(out, json.dumps(content, indent=2) + "\n")
    return content


def read_chosen(out: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The settings that an earlier search on this scenario, with trainings of this length, chose by algorithm."""
    earlier = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    same = "evaluated_on" in earlier and about.items() <= earlier.items()
    return earlier["algorithms"] if same else {}
