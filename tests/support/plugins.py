"""Policies and learners as a user would write them, good and bad, for the tests of plugins."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgebrush.decision.observation import ObservationLayout
from edgebrush.scenario.expand import action_space


class SelfishPolicy:
    """What the rule selfish-greedy does: the choice with the lowest expected cost among the present slots."""

    name = "selfish-of-mine"

    def __init__(self, scenario):
        self.layout = ObservationLayout(action_space(scenario))

    def choose(self, observations, draws):
        _, candidates, cost = self.layout.split(observations)
        present = candidates[..., 0, None, None] > 0
        return np.where(present, cost, np.inf).reshape(len(observations), -1).argmin(1)


class FixedPolicy:
    """Always the same choice: the one that the argument, or a learner's file, names."""

    def __init__(self, scenario, argument):
        path = Path(argument) / "choice.json"
        self.choice = json.loads(path.read_text()) if path.exists() else int(argument)
        self.name = f"always-{self.choice}"

    def choose(self, observations, draws):
        return np.full(len(observations), self.choice)


class OutOfRange(SelfishPolicy):
    def choose(self, observations, draws):
        return np.full(len(observations), 10_000)


class Fractional(SelfishPolicy):
    def choose(self, observations, draws):
        return draws


class OneForAll(SelfishPolicy):
    def choose(self, observations, draws):
        return np.int64(3)


class Nameless:
    def __init__(self, scenario):
        pass

    def choose(self, observations, draws):
        return np.zeros(len(observations), np.int64)


class LikeARule(SelfishPolicy):
    name = "selfish-greedy"


class LikeMappo(SelfishPolicy):
    name = "mappo"


NOT_A_CLASS = 7


@dataclass(frozen=True)
class CountingConfig:
    seconds: float | None = None
    decisions: int = 100
    choice: int = 0


class CountingLearner:
    """Counts to its number of decisions, ten at a time, and leaves a file for ``FixedPolicy``."""

    title = "counting"
    config = CountingConfig

    def __init__(self, scenario, config, seed, rule_parameters):
        self.choice, self.decisions, self.seed, self.rows = config.choice, config.decisions, seed, []

    @property
    def seconds(self):
        return float(len(self.rows))

    @property
    def share(self):
        return 10 * len(self.rows) / self.decisions

    def step(self):
        n = len(self.rows) + 1
        row = {"update": n, "seconds": float(n), "decisions": 10 * n, "seed": self.seed, "cost": 1.0 / n}
        self.rows.append(row)
        return row

    def save_policy(self, folder):
        folder.mkdir()
        (folder / "choice.json").write_text(json.dumps(self.choice + self.seed))

    def save(self, path):
        np.savez(path, rows=len(self.rows))

    def load(self, path):
        for _ in range(int(np.load(path)["rows"])):
            self.step()


class WithoutConfig(CountingLearner):
    config = None


class WithoutSave:
    config = CountingConfig
    step = save_policy = seconds = share = None
