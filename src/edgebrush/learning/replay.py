"""Replay of the last experience, in whole sequences of groups of copies; and the returns that off-policy learners fit.

A sequence is what one group's copies did in one collection, ``T`` decisions each. Whole sequences allow lambda-returns
(Peng and Williams 1996; as in Hu et al. 2021's QMIX): over a gap of 0.2 s one reward says nothing of a choice whose
cost falls due in the next half minute. They are not corrected for the older policy that made them, so the replay is
kept short. A group's copies share arrivals, tasks and gaps, so what they share, the arrivals' own noise, leaves the
error that a learner descends (``less_group_mean``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from .collect import Batch
from .mappo import gae

Array = Any  # a JAX or a NumPy array


class Sequences(NamedTuple):
    """Experience of ``G`` groups with leading axes before: ``T`` decisions of ``C`` copies each."""

    observations: Array  # (..., G, T, C, O)
    states: Array  # (..., G, T, C, Z)
    choices: Array  # (..., G, T, C)
    rewards: Array  # (..., G, T, C), from each decision to the next
    gaps_s: Array  # (..., G, T, C)


class Replay:
    """A ring of sequences in arrays that it alone writes: what goes in and what comes out is a copy."""

    def __init__(self, capacity: int, length: int, copies: int, observation_size: int, state_size: int):
        """Room for ``capacity`` sequences."""
        shape = (capacity, length, copies)
        self.ring = Sequences(
            np.zeros((*shape, observation_size), np.float32), np.zeros((*shape, state_size), np.float32),
            np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros(shape, np.float32),
        )  # fmt: skip
        self.added = 0  # sequences ever

    @property
    def filled(self) -> int:
        return min(self.added, len(self.ring.choices))

    def add(self, batch: Batch) -> None:
        """Copy one collection's groups over the oldest."""
        _, length, copies = self.ring.choices.shape
        groups = batch.choices.shape[1] // copies
        at = (self.added + np.arange(groups)) % len(self.ring.choices)
        for name, kept in self.ring._asdict().items():
            new = getattr(batch, name)[:length]
            kept[at] = np.moveaxis(new.reshape(length, groups, *kept.shape[2:]), 1, 0)
        self.added += groups

    def draw(self, rng: np.random.Generator, *shape: int) -> Sequences:
        """Sequences drawn uniformly, with leading axes ``shape``."""
        index = rng.integers(self.filled, size=shape)
        return Sequences(*(kept[index] for kept in self.ring))

    def state(self) -> dict[str, np.ndarray]:
        """For a checkpoint."""
        kept = {f"replay_{name}": kept[: self.filled] for name, kept in self.ring._asdict().items()}
        return {**kept, "replay_added": np.array(self.added)}

    def take_up(self, saved) -> None:
        """Go on from what ``state`` gave."""
        self.added = int(saved["replay_added"])
        for name, kept in self.ring._asdict().items():
            kept[: self.filled] = saved[f"replay_{name}"]


def lambda_returns(
    rewards: jax.Array, gaps_s: jax.Array, values: jax.Array, discount_per_s: float, trace_decay_per_s: float
) -> jax.Array:
    """Peng's Q(lambda) ``(G, T - 1, C)`` from rewards, gaps and the targets' values, all ``(G, T, C)``.

    Over each gap lambda is ``exp(-trace_decay_per_s * gap)``: 0.02/s looks ahead as MAPPO's advantages do, and with
    an infinite decay this is the one-step target.
    """
    rewards, gaps_s, values = (x.swapaxes(0, 1) for x in (rewards, gaps_s, values))
    advantages = gae(rewards[:-1], gaps_s[:-1], values, discount_per_s, trace_decay_per_s)
    return (values[:-1] + advantages).swapaxes(0, 1)
