"""A policy of another library in our comparison: a PPO model of Stable-Baselines3, trained by train_with_sb3.py.

    edgebrush compare --policy examples.sb3_policy:Sb3Policy:trained-sb3

The text after the second colon is the folder. SB3 stores models with pickle: load only models that you trust.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from stable_baselines3 import PPO

from edgebrush.errors import UserError
from edgebrush.scenario.schema import Scenario

MODEL, NORMALISATION = "model.zip", "normalisation.npz"


class Sb3Policy:
    """The most likely action of the model in ``folder``, for the scenario that it was trained on."""

    name = "sb3-ppo"

    def __init__(self, scenario: Scenario, folder: str):
        if not (Path(folder) / MODEL).is_file():
            raise UserError(f"{folder}: holds no {MODEL}; train one with examples/train_with_sb3.py")
        self.model = PPO.load(Path(folder) / MODEL, device="cpu")
        with np.load(Path(folder) / NORMALISATION) as arrays:
            self.mean, self.deviation = arrays["mean"], arrays["deviation"]

    def choose(self, observations: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """One action per row of ``observations (B, size)``; see ``edgebrush.policies.protocol.Policy``."""
        normalised = np.clip((squash(observations) - self.mean) / self.deviation, -10.0, 10.0)
        return self.model.predict(normalised, deterministic=True)[0]


def squash(observations: np.ndarray) -> np.ndarray:
    """Bits, seconds and shares on one scale, for a plain MLP."""
    return np.sign(observations) * np.log1p(np.abs(observations))
