"""The study's jobs: tune a rule, play a policy. Results are cached under a hash of everything that they depend on.

The hash covers the scenario with its profiles and trace, the policy, the budget or the number of episodes, and
``keys.FORMAT``, so an outdated result is never used. An interrupted study resumes with the next job.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from edgebrush.evaluation.held_out import play_all
from edgebrush.evaluation.run_folder import load_digests, store_digests
from edgebrush.evaluation.statistics import METRICS, Digest, mean_of
from edgebrush.files import write_text
from edgebrush.jobs.executor import Processes
from edgebrush.jobs.keys import cache_key, contents_key
from edgebrush.jobs.training import TrainingJob
from edgebrush.policies.load import load_policy
from edgebrush.policies.protocol import Policy
from edgebrush.policies.rules import Rule
from edgebrush.progress import ShareCallback
from edgebrush.scenario.schema import Scenario
from edgebrush.tuning.cmaes import Budget
from edgebrush.tuning.rules import rule_of, tune


@dataclass(frozen=True)
class TuningJob:
    """Tune a rule's parameters for a scenario."""

    scenario: Scenario
    rule: str
    budget: Budget
    cache: Path

    @property
    def title(self) -> str:
        return f"{self.rule} on {self.scenario.name}"

    @cached_property
    def path(self) -> Path:
        key = cache_key(contents_key(self.scenario), self.rule, asdict(self.budget))
        return self.cache / "rules" / f"{key}.json"

    @property
    def done(self) -> bool:
        return self.path.is_file()

    @property
    def inputs(self) -> list[Path]:
        return []

    def moved(self, scenario: Scenario, cache: Path) -> Self:
        return replace(self, scenario=scenario, cache=cache)

    def run(self, on_progress: ShareCallback, processes: Processes) -> None:
        tuned = tune(self.scenario, self.rule, self.budget, on_progress)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({"numbers": tuned.parameters.tolist(), "cost": tuned.cost}))

    def read(self) -> tuple[Rule, float]:
        """The tuned rule, and its cost on validation episodes."""
        tuned = json.loads(self.path.read_text())
        return rule_of(self.scenario, self.rule, np.array(tuned["numbers"])), tuned["cost"]


@dataclass(frozen=True)
class PlayJob:
    """Play a policy on the held-out episodes of a scenario, and keep the digest of its tasks."""

    scenario: Scenario
    name: str
    source: Rule | TrainingJob  # of the policy
    episodes: int
    cache: Path
    suffix: ClassVar[str] = ".npz"

    @property
    def title(self) -> str:
        return f"{self.name} on {self.scenario.name}"

    @cached_property
    def path(self) -> Path:
        source = self.source
        policy = source.path.name if isinstance(source, TrainingJob) else [source.name, source.parameters.tolist()]
        return self.cache / "plays" / f"{cache_key(contents_key(self.scenario), policy, self.episodes)}{self.suffix}"

    @property
    def done(self) -> bool:
        return self.path.is_file()

    @property
    def ready(self) -> bool:
        """Whether it can run, or has run: not where the training of its policy failed."""
        return self.done or not isinstance(self.source, TrainingJob) or self.source.done

    @property
    def inputs(self) -> list[Path]:
        return [self.source.policy] if isinstance(self.source, TrainingJob) else []

    def moved(self, scenario: Scenario, cache: Path) -> Self:
        source = self.source.moved(scenario, cache) if isinstance(self.source, TrainingJob) else self.source
        return replace(self, scenario=scenario, source=source, cache=cache)

    def run(self, on_progress: ShareCallback, processes: Processes) -> None:
        source = self.source
        policy: Policy = load_policy(source.policy, self.scenario) if isinstance(source, TrainingJob) else source
        played = play_all(
            self.scenario, {self.name: [policy]}, self.episodes, progress=lambda phase, share, note: on_progress(share)
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.store(played[self.name][0])

    def store(self, digest: Digest) -> None:
        store_digests({"policy": digest}, self.path)

    def read(self) -> Any:
        """The digest of the episodes."""
        return load_digests(self.path, ["policy"])["policy"]


@dataclass(frozen=True)
class VariationPlayJob(PlayJob):
    """The same on a variation. A study has many of these, so only the metrics' means are kept, as JSON."""

    suffix: ClassVar[str] = ".json"

    def store(self, digest: Digest) -> None:
        write_text(self.path, json.dumps({metric: mean_of(digest, metric) for metric in METRICS}))

    def read(self) -> dict[str, float]:
        """The mean of every metric, per task or per completed task (see ``statistics.PER``)."""
        return json.loads(self.path.read_text())
