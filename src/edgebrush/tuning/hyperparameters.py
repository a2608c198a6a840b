"""Equal tuning of the learners: each gets the same number of trials, of the same number of decisions.

A plain random search, which with few trials is hard to beat (Bergstra and Bengio 2012): the settings as they come,
then others drawn from the algorithm's own grid by a Sobol sequence. A trial trains one seed, on training episodes,
and is judged by its policy's cost on validation episodes. The log, a CSV file, is the search's memory: what stands
in it is not tried again, so a search can be interrupted, and later be given another algorithm.
"""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from scipy.stats import qmc

from edgebrush.errors import UserError
from edgebrush.evaluation.episodes import play
from edgebrush.evaluation.run_folder import load_curve
from edgebrush.files import check_writable, write_csv, write_text
from edgebrush.jobs.executor import Hear, Workers, work_off
from edgebrush.jobs.training import TrainingUnit
from edgebrush.learning import CURVE
from edgebrush.learning.registry import ALGORITHMS, algorithm_of, configure
from edgebrush.policies.load import load_policy
from edgebrush.progress import ProgressCallback, no_progress
from edgebrush.scenario.load import fingerprint
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.episode_seeds import VALIDATION_SEEDS
from edgebrush.tuning.rules import prices_of

JUDGED_ON = 128  # validation episodes
LUCK = 0.003  # two training seeds of the same settings differ by as much: a trial ahead by less has proved nothing
COLUMNS = ("scenario", "algorithm", "trial", "decisions", "settings", "cost", "seconds")
Row = dict[str, str]


def settings_of(name: str, trials: int) -> list[dict[str, Any]]:
    """What each trial of an algorithm sets: first what it comes with, then other points of its grid, none twice.

    Raises ``UserError`` where the grid has fewer points.
    """
    grid = algorithm_of(name).tuned
    size = math.prod(len(values) for values in grid.values())
    if trials > size:
        raise UserError(f"trials = {trials}: {name} has only {size} settings to try; give fewer")
    usual = configure(name, {}, seconds=None, decisions=None)
    found = [{number: getattr(usual, number) for number in grid}]
    sequence = qmc.Sobol(len(grid), rng=np.random.default_rng(1))
    while len(found) < trials:
        for point in sequence.random(64):
            places = zip(point, grid.items(), strict=True)
            drawn = {number: values[int(u * len(values))] for u, (number, values) in places}
            if drawn not in found:
                found.append(drawn)
    return found[:trials]


class Log:
    """The trials that were made, as rows of a CSV file."""

    def __init__(self, path: Path, scenario: Scenario, decisions: int):
        self.path, self.lock = path, Lock()
        self.rows: list[Row] = []
        if path.is_file():
            with open(path, newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))
        for row in self.rows:
            if (row.get("scenario"), row.get("decisions")) != (fingerprint(scenario), str(decisions)):
                raise UserError(
                    f"{path}: holds trials on another scenario or of {row.get('decisions')} decisions, not "
                    f"{decisions}; give another --out"
                )

    def find(self, algorithm: str, settings: dict) -> Row | None:
        """The row of a trial, if it was made."""
        text = json.dumps(settings)
        return next((row for row in self.rows if (row["algorithm"], row["settings"]) == (algorithm, text)), None)

    def add(self, row: dict[str, Any]) -> None:
        with self.lock:
            self.rows.append({name: str(value) for name, value in row.items()})
            self.rows.sort(key=lambda each: (list(ALGORITHMS).index(each["algorithm"]), int(each["trial"])))
            write_csv(self.path, self.rows)


@dataclass(frozen=True)
class TrialUnit:
    """One trial: a training and its judgement, see ``units``."""

    training: TrainingUnit
    number: int
    settings: dict[str, Any]
    log: Log

    @property
    def path(self) -> Path:
        return self.training.path

    @property
    def title(self) -> str:
        return f"{self.training.algorithm}, trial {self.number}"

    @property
    def done(self) -> bool:
        return self.log.find(self.training.algorithm, self.settings) is not None

    def do(self, hear: Hear, workers: Workers) -> None:
        self.training.do(hear, workers)
        scenario = self.training.scenario
        policy = load_policy(self.training.policy, scenario)
        cost = play(scenario, policy, VALIDATION_SEEDS + np.arange(JUDGED_ON))["cost"].mean()
        self.log.add(
            {
                "scenario": fingerprint(scenario),
                "algorithm": self.training.algorithm,
                "trial": self.number,
                "decisions": self.training.config.decisions,
                "settings": json.dumps(self.settings),
                "cost": f"{cost:.6f}",
                "seconds": load_curve(self.training.path / CURVE)[-1]["seconds"],
            }
        )


def search(
    scenario: Scenario,
    out: Path,
    *,
    algorithms: Sequence[str] = (),
    trials: int,
    decisions: int,
    jobs: int,
    command: str,
    progress: ProgressCallback = no_progress,
) -> dict:
    """Tune learners (none named: all), ``trials`` of ``decisions`` each; ``out`` gets the choice as JSON.

    Its log lies beside it (``.csv``). Learners that were searched before keep their place in both. Raises
    ``UserError`` before any long work where a name is not known, a file cannot be written, or the log is of another
    search.
    """
    tried = {name: settings_of(name, trials) for name in algorithms or ALGORITHMS}
    check_writable(out.parent)
    log = Log(out.with_suffix(".csv"), scenario, decisions)
    prices = prices_of(scenario, progress)
    with tempfile.TemporaryDirectory(prefix="edgebrush-") as home:
        units = []
        for name, each in tried.items():
            for number, settings in enumerate(each):
                config = configure(name, settings, seconds=None, decisions=decisions)
                training = TrainingUnit(scenario, name, name, config, 1, prices, Path(home))
                units.append(TrialUnit(training, number, settings, log))
        work_off(units, jobs, "trying settings", progress)
    chosen = {name: _best(log, name) for name in ALGORITHMS if any(row["algorithm"] == name for row in log.rows)}
    about = {
        "command": command,
        "date": f"{date.today()}",
        "scenario": fingerprint(scenario),
        "decisions": decisions,
        "judged_on": f"{JUDGED_ON} validation episodes",
        "algorithms": chosen,
    }
    write_text(out, json.dumps(about, indent=2) + "\n")
    return about


def _best(log: Log, name: str) -> dict[str, Any]:
    """The settings chosen, their cost, and the cost of the settings as they come, which a clear gain alone replaces."""
    rows = [row for row in log.rows if row["algorithm"] == name]
    usual, best = rows[0], min(rows, key=lambda row: float(row["cost"]))
    chosen = best if float(best["cost"]) < (1.0 - LUCK) * float(usual["cost"]) else usual
    return {
        "trials": len(rows),
        "settings": json.loads(chosen["settings"]),
        "cost": float(chosen["cost"]),
        "cost_as_it_comes": float(usual["cost"]),
    }
