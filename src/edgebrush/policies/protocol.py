"""The interface of every policy: local observations in, actions out."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = Any  # an array of NumPy or JAX: the same code runs on both
Weights = dict[str, Array]  # a trained policy's arrays by name


class Policy(Protocol):
    """A rule or a trained policy; the same object decides in the simulator and on a UE."""

    @property
    def name(self) -> str:
        """In kebab-case, as in results.json."""
        ...

    def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """One action (see ``edgebrush.decision.action_space``) per row of ``observations``.

        ``observations (B, layout.size)`` are float32, ``draws (B,)`` uniform in (0, 1). The draws are a policy's only
        randomness, so equal inputs give equal actions. Returns ``(B,)`` int64.
        """
        ...
