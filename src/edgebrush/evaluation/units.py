"""The study's work in units: a rule tuned, a learner trained, a policy played. Each is done once and kept.

A unit is kept under the hash of all that it depends on (the world with its profiles and trace, the algorithm with
every number of its config, the seed, the episodes, ``FORMAT``), so nothing stale is ever taken up, and what was
interrupted goes on where it was: a training at its last checkpoint, anything else with the next unit.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from threading import Event, Lock
from typing import Any, ClassVar, Protocol

import numpy as np

from edgebrush.files import write_text
from edgebrush.learning import CHECKPOINT, CURVE
from edgebrush.policies.protocol import Policy
from edgebrush.policies.rules import Rule
from edgebrush.profiles.catalogue import load_profile
from edgebrush.scenario.schema import Scenario, TraceArrivals

from .compare import load_policy, play_all
from .runs import load_digests, store_digests
from .statistics import METRICS, Digest, mean_of
from .tuning import Budget, rule_of, tune

FORMAT = 2  # to be raised when the same settings come to mean another training or evaluation


def hash_of(*parts: Any) -> str:
    """A name for content that JSON can hold."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True).encode()).hexdigest()[:20]


def world_of(scenario: Scenario) -> str:
    """What tells one world from another: the scenario, and what the files hold that it refers to."""
    names = [ue.profile for ue in scenario.ues] + [bs.profile for bs in scenario.bss]
    profiles = [load_profile(name, scenario.directory).model_dump_json() for name in names]
    content = [scenario.model_dump_json(), *profiles]
    if isinstance(scenario.arrivals, TraceArrivals):
        content.append((scenario.directory / scenario.arrivals.file).read_text(encoding="utf-8"))
    return hash_of(*content)


Hear = Callable[[float], None]  # hears what share of a unit is done
Workers = list[subprocess.Popen]  # gets the processes that a unit starts


class Unit(Protocol):
    """Something to do once."""

    @property
    def path(self) -> Path:
        """Where it is kept, and what tells it from others."""
        ...

    @property
    def title(self) -> str: ...

    @property
    def done(self) -> bool: ...

    def do(self, hear: Hear, workers: Workers) -> None: ...


@dataclass(frozen=True)
class RuleUnit:
    """A rule whose numbers are searched for a scenario."""

    scenario: Scenario
    rule: str
    budget: Budget
    home: Path

    @property
    def title(self) -> str:
        return f"{self.rule} on {self.scenario.name}"

    @cached_property
    def path(self) -> Path:
        return self.home / "rules" / f"{hash_of(world_of(self.scenario), self.rule, asdict(self.budget))}.json"

    @property
    def done(self) -> bool:
        return self.path.is_file()

    def do(self, hear: Hear, workers: Workers) -> None:
        tuned = tune(self.scenario, self.rule, self.budget, hear)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({"numbers": tuned.numbers.tolist(), "cost": tuned.cost}))

    def read(self) -> tuple[Rule, float]:
        """The tuned rule, and its cost on validation episodes."""
        found = json.loads(self.path.read_text())
        return rule_of(self.scenario, self.rule, np.array(found["numbers"])), found["cost"]


@dataclass(frozen=True)
class TrainingUnit:
    """One training seed of a learner on a scenario; ``name`` is what the tables call it."""

    scenario: Scenario
    name: str
    algorithm: str
    config: Any
    seed: int
    prices: np.ndarray
    home: Path

    @property
    def title(self) -> str:
        return f"{self.name} seed {self.seed} on {self.scenario.name}"

    @cached_property
    def path(self) -> Path:
        parts = (world_of(self.scenario), self.algorithm, asdict(self.config), self.seed, self.prices.tolist())
        return self.home / "trainings" / hash_of(*parts)

    @property
    def done(self) -> bool:
        return (self.path / CURVE).is_file() and not (self.path / CHECKPOINT).exists()

    @property
    def policy(self) -> Path:
        return self.path / f"seed-{self.seed}"

    def do(self, hear: Hear, workers: Workers) -> None:
        from edgebrush.learning.seeds import train

        train(
            self.scenario, self.algorithm, self.config, [self.seed], self.path, self.prices,
            lambda row: hear(row["share"]), workers,
        )  # fmt: skip


@dataclass(frozen=True)
class PlayUnit:
    """A policy on the held-out episodes of a scenario; ``made`` says where it came from."""

    scenario: Scenario
    name: str
    made: Rule | TrainingUnit
    episodes: int
    home: Path
    suffix: ClassVar[str] = ".npz"

    @property
    def title(self) -> str:
        return f"{self.name} on {self.scenario.name}"

    @cached_property
    def path(self) -> Path:
        made = self.made
        policy = made.path.name if isinstance(made, TrainingUnit) else [made.name, made.numbers.tolist()]
        return self.home / "plays" / f"{hash_of(world_of(self.scenario), policy, self.episodes)}{self.suffix}"

    @property
    def done(self) -> bool:
        return self.path.is_file()

    def do(self, hear: Hear, workers: Workers) -> None:
        made = self.made
        policy: Policy = load_policy(made.policy, self.scenario) if isinstance(made, TrainingUnit) else made
        played = play_all(
            self.scenario, {self.name: [policy]}, self.episodes, progress=lambda phase, share, note: hear(share)
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.keep(played[self.name][0])

    def keep(self, digest: Digest) -> None:
        store_digests({"policy": digest}, self.path)

    def read(self) -> Any:
        """The digest of its episodes."""
        return load_digests(self.path, ["policy"])["policy"]


@dataclass(frozen=True)
class PointUnit(PlayUnit):
    """The same at a point of a sweep, of which there are so many that means alone are kept, as JSON."""

    suffix: ClassVar[str] = ".json"

    def keep(self, digest: Digest) -> None:
        write_text(self.path, json.dumps({metric: mean_of(digest, metric) for metric in METRICS}))

    def read(self) -> dict[str, float]:
        """The mean of every metric, per task unless ``statistics.PER`` says otherwise."""
        return json.loads(self.path.read_text())


def work_off(
    units: Sequence[Unit], jobs: int, phase: str, progress: Callable[[str, float, str], None]
) -> int:
    """Do what is not done yet, ``jobs`` units at once; how many there were to do.

    On Ctrl-C, or when a unit fails, trainings at work save their checkpoints before this raises.
    """
    known = {unit.path: unit for unit in units}  # a unit that two tables need is done once
    waiting = [unit for unit in known.values() if not unit.done]
    shares = {path: 1.0 for path, unit in known.items() if unit.done}
    lock, workers, over = Lock(), Workers(), Event()

    def run(unit: Unit) -> None:
        if over.is_set():
            return

        def hear(share: float) -> None:
            with lock:
                shares[unit.path] = min(share, 1.0)
                progress(phase, sum(shares.values()) / len(known), unit.title)

        try:
            unit.do(hear, workers)
        except BaseException:
            over.set()  # before the pool takes the next unit
            raise
        hear(1.0)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for done in as_completed([pool.submit(run, unit) for unit in waiting]):
                done.result()
        except BaseException:
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                if worker.poll() is None:
                    worker.send_signal(signal.SIGINT)
            for worker in workers:
                worker.wait()
            raise
    progress(phase, 1.0, "")
    return len(waiting)


def default_jobs() -> int:
    """As many units at once as there are cores."""
    return os.cpu_count() or 1
