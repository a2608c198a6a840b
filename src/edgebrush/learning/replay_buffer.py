"""Replay buffer of the most recent experience, stored as whole sequences of groups of copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .rollout import Array, Rollout


class Sequences(NamedTuple):
    """``T`` decisions in each of ``G`` groups of ``C`` copies; leading axes, if any, count independent samples."""

    observations: Array  # (..., G, T, C, O)
    states: Array  # (..., G, T, C, Z)
    choices: Array  # (..., G, T, C)
    rewards: Array  # (..., G, T, C), from each decision to the next
    gaps_s: Array  # (..., G, T, C)


class ReplayBuffer:
    """A ring of sequences. It copies what is added and what is sampled, so callers may overwrite their arrays."""

    def __init__(self, capacity: int, length: int, copies: int, observation_size: int, state_size: int):
        """Space for ``capacity`` sequences."""
        shape = (capacity, length, copies)
        self.ring = Sequences(
            np.zeros((*shape, observation_size), np.float32),
            np.zeros((*shape, state_size), np.float32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
        )
        self.added = 0  # sequences added so far, overwritten ones included

    def __len__(self) -> int:
        return min(self.added, len(self.ring.choices))

    def add(self, rollout: Rollout) -> None:
        """Copy a rollout's groups over the oldest ones. A rollout must not have more groups than the capacity."""
        capacity, length, copies = self.ring.choices.shape
        groups = rollout.choices.shape[1] // copies
        positions = (self.added + np.arange(groups)) % capacity
        for name, stored in self.ring._asdict().items():
            new = getattr(rollout, name)[:length]
            stored[positions] = np.moveaxis(new.reshape(length, groups, *stored.shape[2:]), 1, 0)
        self.added += groups

    def sample(self, rng: np.random.Generator, *shape: int) -> Sequences:
        """Sequences drawn uniformly with replacement; ``shape`` gives their leading axes."""
        index = rng.integers(len(self), size=shape)
        return Sequences(*(stored[index] for stored in self.ring))

    def state_dict(self) -> dict[str, np.ndarray]:
        """The buffer's content, for a checkpoint."""
        arrays = {f"replay_{name}": stored[: len(self)] for name, stored in self.ring._asdict().items()}
        return {**arrays, "replay_added": np.array(self.added)}

    def load_state_dict(self, saved: Mapping[str, np.ndarray]) -> None:
        """Restore the content of ``state_dict``."""
        self.added = int(saved["replay_added"])
        for name, stored in self.ring._asdict().items():
            stored[: len(self)] = saved[f"replay_{name}"]
