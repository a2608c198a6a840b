"""Replay of the last experience, in whole sequences of groups of copies."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .rollout import Batch

Array = Any  # a JAX or a NumPy array


class Sequences(NamedTuple):
    """What ``G`` groups of ``C`` copies did in ``T`` decisions each; with more axes before, many such draws."""

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
            np.zeros((*shape, observation_size), np.float32),
            np.zeros((*shape, state_size), np.float32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
        )
        self.added = 0  # sequences ever

    @property
    def filled(self) -> int:
        return min(self.added, len(self.ring.choices))

    def add(self, batch: Batch) -> None:
        """Copy one collection's groups over the oldest; it must have no more groups than there is room for."""
        capacity, length, copies = self.ring.choices.shape
        groups = batch.choices.shape[1] // copies
        at = (self.added + np.arange(groups)) % capacity
        for name, kept in self.ring._asdict().items():
            new = getattr(batch, name)[:length]
            kept[at] = np.moveaxis(new.reshape(length, groups, *kept.shape[2:]), 1, 0)
        self.added += groups

    def draw(self, rng: np.random.Generator, *shape: int) -> Sequences:
        """Sequences drawn uniformly, as many as ``shape`` says."""
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
