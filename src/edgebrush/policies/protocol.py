"""What every decision maker is: a local observation in, a joint choice out."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Policy(Protocol):
    """A rule or a trained actor; the same object decides in the simulator and on a UE."""

    @property
    def name(self) -> str:
        """In kebab-case, as in results.json."""
        ...

    def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """One joint choice (see decision/choices.py) per row.

        ``observations (B, layout.size)`` float32, ``draws (B,)`` uniform in (0, 1): all the randomness a policy
        has, so equal inputs give equal choices. Returns ``(B,)`` int64.
        """
        ...
