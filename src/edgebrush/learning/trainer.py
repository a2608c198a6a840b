"""The bookkeeping of one seed's training: collect, learn, note; checkpoints and the policy that it leaves."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edgebrush.files import whole
from edgebrush.policies.folder import SOFTMAX, save_policy
from edgebrush.scenario.schema import Scenario

from .rollout import Batch, Collector, validate

VALIDATED_EVERY = 15  # updates


class SeedTraining:
    """See ``algorithms.Training``; an algorithm gives it ``start`` and ``learn``."""

    name: str  # of the policies it leaves
    kind: str = SOFTMAX  # of policy, see policies/folder.py

    def __init__(self, scenario: Scenario, config: Any, seed: int, numbers: np.ndarray | None):
        self.scenario, self.config, self.seed = scenario, config, seed
        self.begun, self.seconds_before = time.perf_counter(), 0.0
        self.collector = Collector(scenario, config.groups, config.copies, config.length, seed)
        self.learner = self.start(None if config.own_prices else numbers)
        self.rows: list[dict[str, float]] = []  # the learning curve

    def start(self, numbers: np.ndarray | None) -> Any:
        """A new learner, a pytree."""
        raise NotImplementedError

    def learn(self, batch: Batch, key: jax.Array, rate: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        """The learner after one update at learning rate ``rate``, and figures for the curve."""
        raise NotImplementedError

    @property
    def actor(self) -> Any:
        """What collects experience: observations and draws to logits."""
        return self.learner.actor

    @property
    def deployed(self) -> Any:
        """What is validated and saved."""
        return self.actor

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.begun

    @property
    def decisions(self) -> int:
        return len(self.rows) * self.collector.choices.size

    @property
    def share(self) -> float:
        if self.config.seconds is not None:
            return self.seconds / self.config.seconds
        return self.decisions / self.config.decisions

    def step(self) -> dict[str, float]:
        config, number = self.config, len(self.rows)
        rate = config.learning_rate * max(0.0, 1.0 - self.share)
        batch = self.collector.collect(self.actor)
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        self.learner, stats = self.learn(batch, key, jnp.float32(rate))
        row = {
            "update": number + 1,
            "seconds": round(self.seconds, 2),
            "decisions": (number + 1) * batch.choices.size,
            "seed": self.seed,
            "cost": float(-batch.rewards.sum() / batch.rewards.size),
            "learning_rate": rate,
            **{name: float(value) for name, value in stats.items()},
        }
        if number % VALIDATED_EVERY == 0:
            row["validation_cost"] = validate(self.scenario, self.deployed)
        self.collector.restart_some(self.scenario.horizon_s)  # as long as the episodes that judge it
        self.rows.append(row)
        return row

    def save_policy(self, folder: Path) -> None:
        about = {
            "algorithm": self.name,
            "scenario": self.scenario.name,
            "seed": self.seed,
            "step_grid": list(self.scenario.decision.step_grid),
            "classes": self.scenario.decision.classes,
            "decisions": self.rows[-1]["decisions"],
            "seconds": round(self.seconds, 1),
            "config": asdict(self.config),
        }
        weights = {name: np.asarray(value) for name, value in self.deployed.all_weights().items()}
        save_policy(folder, self.name, weights, about, self.kind)

    def save(self, path: Path) -> None:
        arrays = {f"learner_{n}": np.asarray(leaf) for n, leaf in enumerate(jax.tree.leaves(self.learner))}
        meta = {"config": asdict(self.config), "seed": self.seed, "seconds": self.seconds, "rows": self.rows}
        with whole(path) as unfinished:
            np.savez(unfinished, **{"meta": np.array(json.dumps(meta)), **arrays, **self.memory()})  # type: ignore[arg-type]

    def load(self, path: Path) -> None:
        with np.load(path) as saved:
            meta = json.loads(str(saved["meta"]))
            if meta["config"] != asdict(self.config) or meta["seed"] != self.seed:
                raise ValueError("the checkpoint is of a training with other settings")
            leaves, structure = jax.tree.flatten(self.learner)
            loaded = [jnp.asarray(saved[f"learner_{n}"]) for n in range(len(leaves))]
            self.learner = jax.tree.unflatten(structure, loaded)
            self.take_up(saved)
        self.rows, self.seconds_before, self.begun = meta["rows"], meta["seconds"], time.perf_counter()

    def memory(self) -> dict[str, np.ndarray]:
        """All that the next ``step`` depends on beside the learner."""
        return self.collector.state()

    def take_up(self, saved) -> None:
        """Go on from what ``memory`` gave."""
        self.collector.take_up(saved)
