"""What the off-policy learners' trainings share: collect, remember, draw, update; the curve, checkpoints, the policy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edgebrush.policies.actor import raw_inputs, save_policy
from edgebrush.scenario.schema import Scenario

from .collect import Collector, validate
from .networks import input_scale, new_actor
from .replay import Replay, Sequences

VALIDATED_EVERY = 15  # updates


class Look(NamedTuple):
    """What a new learner is told of its world: sizes from the simulator, input scales from a first look."""

    simulator: Any  # .layout, .params.step_grid, .state_size
    bs_count: int
    numbers: np.ndarray | None  # the tuned priced greedy rule's
    candidate_scale: np.ndarray  # (network_inputs,)
    observation_scale: np.ndarray  # (layout.size,)
    state_scale: np.ndarray  # (state_size,)


def first_look(scenario: Scenario, collector: Collector, numbers: np.ndarray | None) -> Look:
    """Let the rule with these ``numbers`` play a little to see how large the inputs are."""
    simulator = collector.simulator
    layout, grid = simulator.layout, simulator.params.step_grid
    batch = collector.collect(new_actor(np.random.default_rng(0), layout, grid, 1, scenario.bs_count, numbers))
    observations = batch.observations.reshape(-1, layout.size)[::7]
    inputs = raw_inputs(layout, observations, np)
    states = batch.states.reshape(-1, batch.states.shape[-1])
    scales = [input_scale(x) for x in (inputs.reshape(-1, inputs.shape[-1]), observations, states)]
    return Look(simulator, scenario.bs_count, numbers, *scales)


class OffPolicy:
    """One seed's training, update by update; saved and loaded, it goes on exactly as if it had never stopped."""

    name: str
    new_learner: Callable  # (config, look, rng) -> learner
    update: Callable  # (config, learner, sequences, key, rate) -> learner, stats
    policy: Callable  # (config, learner) -> what acts in training: observations, draws -> logits
    deployed: Callable  # (config, learner) -> what is validated and saved

    def __init__(self, scenario: Scenario, config: Any, seed: int, numbers: np.ndarray | None):
        self.scenario, self.config, self.seed = scenario, config, seed
        self.begun, self.seconds_before = time.perf_counter(), 0.0
        self.collector = Collector(scenario, config.groups, config.copies, config.length, seed)
        numbers = None if config.own_prices else numbers
        look = first_look(scenario, self.collector, numbers)
        self.learner = type(self).new_learner(config, look, np.random.default_rng(seed))
        simulator = self.collector.simulator
        capacity = max(config.groups, config.replay // (config.length * config.copies))
        self.replay = Replay(capacity, config.length, config.copies, simulator.layout.size, simulator.state_size)
        self.rows: list[dict[str, float]] = []  # the learning curve

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.begun

    @property
    def decisions(self) -> int:
        return len(self.rows) * self.collector.choices.size

    @property
    def share(self) -> float:
        """What share of the training is done."""
        if self.config.seconds is not None:
            return self.seconds / self.config.seconds
        return self.decisions / self.config.decisions

    def step(self) -> dict[str, float]:
        """Collect once and learn from the replay; the new row of the learning curve."""
        config, number = self.config, len(self.rows)
        rate = config.learning_rate * max(0.0, 1.0 - self.share)
        batch = self.collector.collect(self.policy(config, self.learner))
        self.replay.add(batch)
        rng = np.random.default_rng([self.seed, 2, number])
        sequences = self.replay.draw(rng, config.gradient_steps, config.minibatch_groups)
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        self.learner, stats = type(self).update(config, self.learner, sequences, key, jnp.float32(rate))
        row = {
            "update": number + 1, "seconds": round(self.seconds, 2), "decisions": (number + 1) * batch.choices.size,
            "seed": self.seed, "cost": float(-batch.rewards.sum() / batch.rewards.size),
            "learning_rate": rate, **{name: float(value) for name, value in stats.items()},
        }  # fmt: skip
        if number % VALIDATED_EVERY == 0:
            row["validation_cost"] = validate(self.scenario, self.deployed(config, self.learner))
        self.collector.restart_some(config.episode_s)
        self.rows.append(row)
        return row
