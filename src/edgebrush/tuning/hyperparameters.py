"""Equal search of the learners' hyperparameters: the same number of trials of the same length for each.

A random search, which is hard to beat with few trials (Bergstra and Bengio 2012): the first trial has the default
settings, the others are drawn from the algorithm's grid by a Sobol sequence. A trial trains one seed and is evaluated
on validation episodes. A CSV log keeps the trials, so an interrupted search resumes, and a later one can add trials or
algorithms.
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
from typing import Any, Self

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
SEED_NOISE = 0.003  # relative difference between two seeds of the same settings: a smaller gain means nothing


def trial_settings(algorithm: str, trials: int) -> list[dict[str, Any]]:
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
    """The finished trials of a search, as rows of a CSV file. Several threads may add rows."""

    def __init__(self, path: Path, scenario: Scenario, decisions: int):
        """Read the log, if there is one. Raises ``UserError`` where it is of another search."""
        self.path, self.lock = path, Lock()
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))
        for row in self.rows:
            if (row.get("scenario"), row.get("decisions")) != (fields_hash(scenario), str(decisions)):
                raise UserError(
                    f"{path}: holds trials on another scenario or of {row.get('decisions')} decisions, not "
                    f"{decisions}; give another --out"
                )

    def find(self, algorithm: str, settings: dict) -> dict[str, str] | None:
        """The row of a finished trial."""
        text = json.dumps(settings)
        return next((row for row in self.rows if (row["algorithm"], row["settings"]) == (algorithm, text)), None)

    def add(self, row: dict[str, Any]) -> None:
        with self.lock:
            self.rows.append({name: str(value) for name, value in row.items()})
            self.rows.sort(key=lambda row: (list(ALGORITHMS).index(row["algorithm"]), int(row["trial"])))
            write_csv(self.path, self.rows)

    def best(self, algorithm: str) -> dict[str, Any]:
        """The chosen settings and their cost: the defaults, unless another trial is cheaper by more than noise."""
        rows = [row for row in self.rows if row["algorithm"] == algorithm]
        default, cheapest = rows[0], min(rows, key=lambda row: float(row["cost"]))
        better = float(cheapest["cost"]) < (1.0 - SEED_NOISE) * float(default["cost"])
        chosen = cheapest if better else default
        return {
            "trials": len(rows),
            "settings": json.loads(chosen["settings"]),
            "cost": float(chosen["cost"]),
            "cost_as_it_comes": float(default["cost"]),  # the key of files that exist
        }


@dataclass(frozen=True)
class TrialJob:
    """Train one seed with the trial's settings and evaluate it. The result is the row of the trial's log."""

    training: TrainingJob
    number: int
    settings: dict[str, Any]
    logged: bool  # whether the log already holds the trial

    @property
    def path(self) -> Path:
        return self.training.cache / "trials" / f"{self.training.path.name}.json"

    @property
    def title(self) -> str:
        return f"{self.training.algorithm}, trial {self.number}"

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
            "scenario": fields_hash(self.scenario),
            "algorithm": self.training.algorithm,
            "trial": self.number,
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
    """Search the settings of ``algorithms`` (default: all) with ``trials`` of ``decisions`` each.

    Writes the chosen settings to ``out`` as JSON and returns them; the log is beside it (``.csv``). Algorithms that
    the log holds from earlier searches stay in both. One with a failed trial has no settings in ``out``, where
    ``failed_jobs`` lists the failures; the same search again tries only what is missing. Raises ``UserError`` before
    any training where a name is unknown, a file cannot be written, or the log is of another search.
    """
    settings = {name: trial_settings(name, trials) for name in algorithms or ALGORITHMS}
    check_writable(out.parent)
    log = TrialLog(out.with_suffix(".csv"), scenario, decisions)
    prices = start_prices(scenario, progress)
    with tempfile.TemporaryDirectory(prefix="edgebrush-") as folder:
        jobs = []
        for name, tried in settings.items():
            for number, values in enumerate(tried):
                config = configure(name, values, seconds=None, decisions=decisions)
                training = TrainingJob(scenario, name, name, config, 1, prices, Path(folder))
                jobs.append(TrialJob(training, number, values, log.find(name, values) is not None))
        outcome = run_jobs(jobs, executor, "trying settings", progress, lambda job: log.add(job.read()))
    incomplete = {name for name, tried in settings.items() if not all(log.find(name, values) for values in tried)}
    chosen = {row["algorithm"] for row in log.rows} - incomplete
    content = {
        "command": command,
        "date": f"{date.today()}",
        "scenario": fields_hash(scenario),
        "decisions": decisions,
        "judged_on": f"{TRIAL_EPISODES} validation episodes",  # the key of files that exist
        "algorithms": {name: log.best(name) for name in ALGORITHMS if name in chosen},
        "failed_jobs": [asdict(failure) for failure in outcome.failures],
    }
    write_text(out, json.dumps(content, indent=2) + "\n")
    return content
