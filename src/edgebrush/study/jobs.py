"""The study's work in units: a rule tuned, a learner trained, a policy played. Each is done once and kept.

A unit is kept under the hash of all that it depends on (the world with its profiles and trace, the algorithm with
every number of its config, the seed, the episodes, ``FORMAT``), so nothing stale is ever taken up, and what was
interrupted goes on where it was: a training at its last checkpoint, anything else with the next unit.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgebrush.evaluation.held_out import play_all
from edgebrush.evaluation.run_folder import load_digests, store_digests
from edgebrush.evaluation.statistics import METRICS, Digest, mean_of
from edgebrush.files import write_text
from edgebrush.jobs.executor import Hear, Workers
from edgebrush.jobs.keys import hash_of, world_of
from edgebrush.jobs.training import TrainingUnit
from edgebrush.policies.load import load_policy
from edgebrush.policies.protocol import Policy
from edgebrush.policies.rules import Rule
from edgebrush.scenario.schema import Scenario
from edgebrush.tuning.cmaes import Budget
from edgebrush.tuning.rules import rule_of, tune


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
