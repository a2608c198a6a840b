"""The training loop of one seed: collect, update, record; checkpoints and the final policy folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from edgebrush.files import atomic_write
from edgebrush.policies.folder import MLP, save_policy
from edgebrush.scenario.schema import Scenario

from .optimiser import Stats
from .registry import COMMON
from .rollout import Rollout, RolloutCollector, validate

VALIDATIONS = 20  # per training, spread evenly over it, and one after the first update
BEST = "best_"  # prefix of the best policy's weights in a checkpoint


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters of every learner."""

    seconds: PositiveFloat | None = None  # the training's length, compilation included; None: ``decisions`` decides
    decisions: PositiveInt = 10_000_000
    copies: PositiveInt = 8  # episodes per group with common arrivals; 1: no copies
    groups: PositiveInt = 32
    length: PositiveInt = 128  # decisions per episode and update
    learning_rate: PositiveFloat = 2e-3  # falls linearly to 0 over the training
    discount_per_s: NonNegativeFloat = 0.01  # rho: gamma over a gap dt is exp(-rho dt)
    trace_decay_per_s: NonNegativeFloat = 0.1  # lambda over a gap dt is exp(-decay dt)
    network: Literal["softmax", "mlp"] = "softmax"  # of the actor, as a kind of policy: policies/actor.py or mlp.py
    init_from_rule: bool = True  # start with the prices of the tuned rule; False: start without prices
    patience: PositiveInt | None = None  # end after so many decisions without a better validation; None: never


class Snapshot(NamedTuple):
    """A deployed policy at one moment of a training."""

    validation_cost: float
    decisions: int  # collected until then
    weights: dict[str, np.ndarray]


class SeedTraining:
    """The training of one seed, see ``registry.Training``. An algorithm adds ``init_learner`` and ``learn``."""

    algorithm: str  # the one whose update it is
    config: TrainingConfig
    learner: Any  # a pytree: everything that learns

    def __init__(self, scenario: Scenario, config: TrainingConfig, seed: int, rule_parameters: np.ndarray | None):
        self.scenario, self.config, self.seed = scenario, config, seed
        self.started, self.seconds_before = time.perf_counter(), 0.0
        self.collector = RolloutCollector(scenario, config.groups, config.copies, config.length, seed)
        self.learner = self.init_learner(rule_parameters if config.init_from_rule else None)
        self.rows: list[dict[str, float]] = []  # the learning curve
        self.best: Snapshot | None = None  # of those validated; this is the policy that is saved

    def init_learner(self, rule_parameters: np.ndarray | None) -> Any:
        """The learner before its first update."""
        raise NotImplementedError

    def learn(self, rollout: Rollout, key: jax.Array, learning_rate: jax.Array) -> tuple[Any, Stats]:
        """The learner after one update, and figures for the curve."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The name in the registry: the algorithm's own as published, else with a suffix."""
        return self.algorithm if self.config.network == MLP else self.algorithm + COMMON

    @property
    def actor(self) -> Any:
        """The network that collects experience: observations and draws to logits."""
        return self.learner.actor.network

    @property
    def deployed(self) -> Any:
        """The network that is validated, and saved where no earlier one was better."""
        return self.actor

    @property
    def seconds(self) -> float:
        """Time spent so far, earlier runs of a resumed training included."""
        return self.seconds_before + time.perf_counter() - self.started

    @property
    def decisions(self) -> int:
        """Decisions collected so far."""
        return len(self.rows) * self.collector.choices.size

    @property
    def share(self) -> float:
        """The share of the training that is done; 1 or more: finished."""
        patience = self.config.patience
        if patience is not None and self.best is not None and self.decisions - self.best.decisions >= patience:
            return 1.0
        if self.config.seconds is not None:
            return self.seconds / self.config.seconds
        return self.decisions / self.config.decisions

    def step(self) -> dict[str, float]:
        """Collect a rollout, update the learner once, and return the new row of the curve."""
        number, share = len(self.rows), self.share
        learning_rate = self.config.learning_rate * max(0.0, 1.0 - share)
        rollout = self.collector.collect(self.actor)
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        self.learner, stats = self.learn(rollout, key, jnp.float32(learning_rate))
        row = {
            "update": number + 1,
            "seconds": round(self.seconds, 2),
            "decisions": (number + 1) * rollout.choices.size,
            "seed": self.seed,
            "cost": float(-rollout.rewards.sum() / rollout.rewards.size),
            "learning_rate": learning_rate,
            **{name: float(value) for name, value in stats.items()},
        }
        self.rows.append(row)
        if number == 0 or int(self.share * VALIDATIONS) > int(share * VALIDATIONS):
            row["validation_cost"] = self.validate()
        self.collector.restart_some(self.scenario.horizon_s)  # as long as the episodes of the evaluation
        return row

    def validate(self) -> float:
        """The cost of the deployed policy on the validation episodes; it is kept if it is the best so far."""
        deployed = self.deployed
        cost = validate(self.scenario, deployed)
        if self.best is None or cost < self.best.validation_cost:
            weights = {name: np.asarray(value) for name, value in deployed.all_weights().items()}
            self.best = Snapshot(cost, self.decisions, weights)
        return cost

    def save_policy(self, folder: Path) -> None:
        """Write the best deployed policy as a policy folder; there is one after the first ``step``."""
        assert self.best is not None
        last = next(row for row in reversed(self.rows) if "validation_cost" in row)
        about = {
            "algorithm": self.name,
            "scenario": self.scenario.name,
            "seed": self.seed,
            "step_grid": list(self.scenario.decision.step_grid),
            "classes": self.scenario.decision.classes,
            "decisions": self.decisions,
            "best_validation": {"decisions": self.best.decisions, "cost": self.best.validation_cost},
            "last_validation": {"decisions": last["decisions"], "cost": last["validation_cost"]},
            "seconds": round(self.seconds, 1),
            "config": asdict(self.config),
        }
        save_policy(folder, self.name, self.best.weights, about, self.deployed.kind)

    def save(self, path: Path) -> None:
        """Write a checkpoint, an ``.npz`` without pickle."""
        arrays = {f"learner_{n}": np.asarray(leaf) for n, leaf in enumerate(jax.tree.leaves(self.learner))}
        meta = {"config": asdict(self.config), "seed": self.seed, "seconds": self.seconds, "rows": self.rows}
        with atomic_write(path) as unfinished:
            np.savez(unfinished, **{"meta": np.array(json.dumps(meta)), **arrays, **self.state_dict()})  # type: ignore[arg-type]

    def load(self, path: Path) -> None:
        """Restore a checkpoint. Raises ``ValueError`` if it has other settings."""
        with np.load(path) as saved:
            meta = json.loads(str(saved["meta"]))
            if meta["config"] != asdict(self.config) or meta["seed"] != self.seed:
                raise ValueError("the checkpoint is of a training with other settings")
            leaves, structure = jax.tree.flatten(self.learner)
            loaded = [jnp.asarray(saved[f"learner_{n}"]) for n in range(len(leaves))]
            self.learner = jax.tree.unflatten(structure, loaded)
            self.load_state_dict(saved)
        self.rows, self.seconds_before, self.started = meta["rows"], meta["seconds"], time.perf_counter()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything beside the learner that the next ``step`` depends on."""
        assert self.best is not None
        best = {f"{BEST}{name}": value for name, value in self.best.weights.items()}
        numbers = np.array([self.best.validation_cost, self.best.decisions])
        return {**self.collector.state_dict(), **best, "best": numbers}

    def load_state_dict(self, saved: Mapping[str, np.ndarray]) -> None:
        """Restore the state of ``state_dict``."""
        self.collector.load_state_dict(saved)
        cost, decisions = saved["best"].tolist()
        weights = {name.removeprefix(BEST): saved[name] for name in saved if name.startswith(BEST)}
        self.best = Snapshot(cost, int(decisions), weights)
