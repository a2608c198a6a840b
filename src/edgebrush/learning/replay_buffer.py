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
    """A ring of sequences. It copies what is added and what is sampled, so callers may overwrite their arrays.

    A sequence is the ``length`` decisions of a rollout that ``horizon`` later ones follow, and these. It enters the
    ring when the later ones are known, so each decision heads exactly one sequence, save the last ``horizon`` of an
    episode.
    """

    def __init__(
        self,
        decisions: int,
        groups: int,
        length: int,
        horizon: int,
        copies: int,
        observation_size: int,
        state_size: int,
    ):
        """Space for ``decisions`` that head a sequence, at least one rollout's."""
        self.length = length

        def zeros(count: int) -> Sequences:
            shape = (count, length + horizon, copies)
            return Sequences(
                np.zeros((*shape, observation_size), np.float32),
                np.zeros((*shape, state_size), np.float32),
                np.zeros(shape, np.int32),
                np.zeros(shape, np.float32),
                np.zeros(shape, np.float32),
            )

        self.ring = zeros(max(groups, decisions // (length * copies)))
        self.recent = zeros(groups)  # the most recent decisions of every group
        self.known = np.zeros(groups, np.int64)  # how many of them are of its present episode
        self.added = 0  # sequences added so far, overwritten ones included

    def __len__(self) -> int:
        return min(self.added, len(self.ring.choices))

    def add(self, rollout: Rollout, restarted: np.ndarray) -> None:
        """Append a rollout; copy the sequences that it completes over the oldest ones.

        ``restarted (groups,)``: the groups whose episode starts with this rollout.
        """
        groups, whole = self.recent.choices.shape[:2]
        for name, recent in self.recent._asdict().items():
            new = getattr(rollout, name)[: self.length]
            recent[:, : -self.length] = recent[:, self.length :].copy()
            recent[:, -self.length :] = np.moveaxis(new.reshape(self.length, groups, *recent.shape[2:]), 1, 0)
        self.known = np.where(restarted, 0, self.known) + self.length
        complete = self.known >= whole
        positions = (self.added + np.arange(complete.sum())) % len(self.ring.choices)
        for stored, recent in zip(self.ring, self.recent, strict=True):
            stored[positions] = recent[complete]
        self.added += int(complete.sum())

    def sample(self, rng: np.random.Generator, *shape: int) -> Sequences:
        """Sequences drawn uniformly with replacement; ``shape`` gives their leading axes."""
        index = rng.integers(len(self), size=shape)
        return Sequences(*(stored[index] for stored in self.ring))

    def state_dict(self) -> dict[str, np.ndarray]:
        """The buffer's content, for a checkpoint."""
        ring = {f"replay_{name}": stored[: len(self)] for name, stored in self.ring._asdict().items()}
        recent = {f"recent_{name}": stored for name, stored in self.recent._asdict().items()}
        return {**ring, **recent, "replay_added": np.array(self.added), "replay_known": self.known}

    def load_state_dict(self, saved: Mapping[str, np.ndarray]) -> None:
        """Restore the content of ``state_dict``."""
        self.added, self.known = int(saved["replay_added"]), saved["replay_known"].copy()
        for name in Sequences._fields:
            getattr(self.ring, name)[: len(self)] = saved[f"replay_{name}"]
            getattr(self.recent, name)[...] = saved[f"recent_{name}"]
