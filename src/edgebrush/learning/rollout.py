"""Rollouts: many episodes side by side, an actor that decides, and the experience as arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
ActorFunction = Callable[[Array, Array], jax.Array]  # observations (E, O) and draws (E,) to logits (E, C)


class Rollout(NamedTuple):
    """The experience of one update: ``T`` decisions in each of ``E`` episodes (groups × copies)."""

    observations: Array  # (T, E, O)
    states: Array  # (T + 1, E, Z)
    choices: Array  # (T, E)
    log_probs: Array  # (T, E)
    rewards: Array  # (T, E)
    gaps_s: Array  # (T, E), from each decision to the next


@eqx.filter_jit
def act(actor: ActorFunction, observations: Array, draws: Array) -> tuple[jax.Array, jax.Array]:
    """Choices ``(E,)`` and their log-probabilities ``(E,)``, by uniform ``draws (E,)``."""
    logits = actor(observations, draws)
    choices = draw_choice(logits, draws, jnp)
    return choices, log_prob(logits, choices)


def log_prob(logits: jax.Array, choices: jax.Array) -> jax.Array:
    """Log-probabilities ``(E,)`` of ``choices (E,)`` under the softmax of ``logits (E, C)``."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), choices[:, None], axis=-1)[:, 0]


class RolloutCollector:
    """Plays groups of copies without end and records their decisions."""

    def __init__(self, scenario: Scenario, groups: int, copies: int, length: int, seed: int):
        self.groups, self.copies, self.length = groups, copies, length
        self.simulator = Simulator(scenario, groups * copies, states=True, threads=1)
        self.rng = np.random.default_rng([seed, 1])
        shape = (length, self.simulator.episodes)
        self.observations = np.zeros((*shape, self.simulator.layout.size), np.float32)
        self.states = np.zeros((length + 1, shape[1], self.simulator.state_size), np.float32)
        self.choices = np.zeros(shape, np.int32)
        self.log_probs, self.rewards, self.gaps_s = (np.zeros(shape, np.float32) for _ in range(3))
        self.restarted = np.zeros(groups, bool)  # groups whose episode starts with the latest rollout
        self.to_start = np.zeros(groups, bool)  # ... with the next rollout
        self.restart(np.ones(groups, bool))

    def restart(self, groups: np.ndarray) -> None:
        """Restart the groups in the mask. Each gets new arrivals, the same for all of its copies."""
        seeds = TRAINING_SEEDS + self.rng.integers(10**9, size=self.groups)
        which = np.repeat(groups, self.copies)
        self.simulator.reset(np.repeat(seeds, self.copies), horizon_s=np.inf, which=which)
        self.to_start |= groups

    def restart_some(self, mean_duration_s: float) -> None:
        """Restart a few groups at random, so that an episode lasts ``mean_duration_s`` on average."""
        elapsed_s = self.gaps_s.sum(0).mean()
        groups = self.rng.random(self.groups) < elapsed_s / mean_duration_s
        if groups.any():
            self.restart(groups)

    def collect(self, actor: ActorFunction) -> Rollout:
        """``length`` decisions of every episode. The arrays are reused by the next call."""
        simulator = self.simulator
        self.restarted, self.to_start = self.to_start, np.zeros(self.groups, bool)
        for t in range(self.length):
            draws = self.rng.random(simulator.episodes, np.float32)
            choices, log_probs = act(actor, simulator.observations, draws)
            self.observations[t], self.states[t] = simulator.observations, simulator.states
            self.choices[t], self.log_probs[t] = choices, log_probs
            simulator.step(self.choices[t])
            self.rewards[t], self.gaps_s[t] = simulator.rewards, simulator.gaps_s
        self.states[-1] = simulator.states
        return Rollout(self.observations, self.states, self.choices, self.log_probs, self.rewards, self.gaps_s)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that the next ``collect`` depends on, for a checkpoint."""
        simulator = self.simulator
        arrays = {f"world_{name}": array for name, array in simulator.worlds._asdict().items()}
        arrays |= {name: getattr(simulator, name) for name in ("observations", "states", "alive")}
        return {**arrays, "to_start": self.to_start, "rng": np.array(json.dumps(self.rng.bit_generator.state))}

    def load_state_dict(self, saved: Mapping[str, np.ndarray]) -> None:
        """Restore the state of ``state_dict``."""
        for name, array in self.simulator.worlds._asdict().items():
            array[...] = saved[f"world_{name}"]
        for name in ("observations", "states", "alive"):
            getattr(self.simulator, name)[...] = saved[name]
        self.to_start = saved["to_start"].copy()
        self.rng.bit_generator.state = json.loads(str(saved["rng"]))


def validate(scenario: Scenario, actor: ActorFunction) -> float:
    """Mean cost per task on the validation episodes, the same ones each time."""
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
