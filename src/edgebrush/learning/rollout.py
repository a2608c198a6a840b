"""Experience for the learners: many episodes side by side, decided by an actor, written down as arrays."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from edgebrush.policies.actor import draw_choice
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.episode_seeds import TRAINING_SEEDS, VALIDATION_SEEDS
from edgebrush.sim.simulator import Simulator

VALIDATION_EPISODES = 64
Array = Any  # a JAX or a NumPy array


class Batch(NamedTuple):
    """One update's experience: ``T`` decisions of ``E`` episodes (groups x copies)."""

    observations: Array  # (T, E, O)
    states: Array  # (T + 1, E, Z)
    choices: Array  # (T, E)
    log_probs: Array  # (T, E)
    rewards: Array  # (T, E)
    gaps_s: Array  # (T, E)


@eqx.filter_jit
def act(actor: Callable, observations: Array, draws: Array) -> tuple[jax.Array, jax.Array]:
    """Choices ``(E,)`` and their log-probabilities ``(E,)``; ``actor``: observations and draws to logits ``(E, C)``."""
    scores = actor(observations, draws)
    choices = draw_choice(scores, draws, jnp)
    return choices, log_prob_of(scores, choices)


def log_prob_of(scores: jax.Array, choices: jax.Array) -> jax.Array:
    return jnp.take_along_axis(jax.nn.log_softmax(scores), choices[:, None], axis=-1)[:, 0]


class Collector:
    """Plays groups of copies on and on, and writes down what was decided."""

    def __init__(self, scenario: Scenario, groups: int, copies: int, length: int, seed: int):
        self.groups, self.copies, self.length = groups, copies, length
        self.simulator = Simulator(scenario, groups * copies, states=True, threads=1)
        self.rng = np.random.default_rng([seed, 1])
        shape = (length, self.simulator.episodes)
        self.observations = np.zeros((*shape, self.simulator.layout.size), np.float32)
        self.states = np.zeros((length + 1, shape[1], self.simulator.state_size), np.float32)
        self.choices = np.zeros(shape, np.int32)
        self.log_probs, self.rewards, self.gaps_s = (np.zeros(shape, np.float32) for _ in range(3))
        self.restart(np.ones(groups, bool))

    def restart(self, groups: np.ndarray) -> None:
        """Start the groups in the mask anew, each on arrivals of its own that all its copies share."""
        seeds = TRAINING_SEEDS + self.rng.integers(10**9, size=self.groups)
        which = np.repeat(groups, self.copies)
        self.simulator.reset(np.repeat(seeds, self.copies), horizon_s=np.inf, which=which)

    def restart_some(self, life_s: float) -> None:
        """End a few groups by chance, so that each lives ``life_s`` on average."""
        lived_s = self.gaps_s.sum(0).mean()
        groups = self.rng.random(self.groups) < lived_s / life_s
        if groups.any():
            self.restart(groups)

    def collect(self, actor: Callable) -> Batch:
        """``length`` decisions of every episode."""
        simulator = self.simulator
        for t in range(self.length):
            draws = self.rng.random(simulator.episodes, np.float32)
            choices, log_probs = act(actor, simulator.observations, draws)
            self.observations[t], self.states[t] = simulator.observations, simulator.states
            self.choices[t], self.log_probs[t] = choices, log_probs
            simulator.step(self.choices[t])
            self.rewards[t], self.gaps_s[t] = simulator.rewards, simulator.gaps_s
        self.states[-1] = simulator.states
        return Batch(self.observations, self.states, self.choices, self.log_probs, self.rewards, self.gaps_s)

    def state(self) -> dict[str, np.ndarray]:
        """All that the next ``collect`` depends on, for a checkpoint."""
        simulator = self.simulator
        arrays = {f"world_{name}": array for name, array in simulator.worlds._asdict().items()}
        arrays |= {name: getattr(simulator, name) for name in ("observations", "states", "alive")}
        return {**arrays, "rng": np.array(json.dumps(self.rng.bit_generator.state))}

    def take_up(self, saved) -> None:
        """Go on from what ``state`` gave."""
        for name, array in self.simulator.worlds._asdict().items():
            array[...] = saved[f"world_{name}"]
        for name in ("observations", "states", "alive"):
            getattr(self.simulator, name)[...] = saved[name]
        self.rng.bit_generator.state = json.loads(str(saved["rng"]))


def validate(scenario: Scenario, actor: Callable) -> float:
    """Mean cost per task on validation episodes, the same ones each time."""
    simulator = Simulator(scenario, VALIDATION_EPISODES, threads=1)
    simulator.reset(VALIDATION_SEEDS + np.arange(VALIDATION_EPISODES))
    rng = np.random.default_rng(0)
    cost, tasks = 0.0, 0
    while simulator.alive.any():
        tasks += int(simulator.alive.sum())
        choices, _ = act(actor, simulator.observations, rng.random(VALIDATION_EPISODES, np.float32))
        simulator.step(np.asarray(choices))
        cost -= simulator.rewards.sum()
    return cost / tasks
