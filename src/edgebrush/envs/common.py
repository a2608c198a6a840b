"""What all environments share: spaces, action masks, checks of actions, render modes."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from edgebrush.decision.observation import PRESENT, ObservationLayout
from edgebrush.errors import UserError
from edgebrush.sim.simulator import Simulator

SEEDS = 2**62  # seeds of fresh episodes are drawn below this
RENDER_MODES = ["rgb_array"]


def action_mask(layout: ObservationLayout, observations: np.ndarray) -> np.ndarray:
    """Valid actions ``(..., actions)`` int8 of observations ``(..., size)``: 1 for every action of a present slot."""
    _, candidates, _ = layout.split(observations)
    present = (candidates[..., PRESENT] > 0).astype(np.int8)
    return present.repeat(layout.action_space.per_slot, axis=-1)


def box(size: int) -> spaces.Box:
    """An unbounded float32 vector."""
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)


def check_render_mode(render_mode: str | None) -> str | None:
    """The render mode, if it is supported. Raises ``UserError``."""
    if render_mode not in (None, *RENDER_MODES):
        raise UserError(f"render_mode = {render_mode!r}: not supported; use 'rgb_array' or None")
    return render_mode


def observe_all(simulator: Simulator) -> tuple[np.ndarray, np.ndarray]:
    """Copies of all observations ``(E, size)``, and their masks ``(E, actions)``.

    A drained episode has a zero observation and a mask of ones: no learner can sample from a mask of zeros.
    """
    observations = np.where(simulator.alive[:, None], simulator.observations, np.float32(0.0))
    return observations, action_mask(simulator.layout, observations) | ~simulator.alive[:, None]


def check_actions(simulator: Simulator, actions: np.ndarray) -> None:
    """Raises ``ValueError`` unless every action exists and is allowed by ``decision.local``."""
    first = 0 if simulator.scenario.decision.local else simulator.action_space.per_slot
    if ((actions < first) | (actions >= simulator.action_space.count)).any():
        raise ValueError(
            f"actions {actions.tolist()}: a pending task needs one of {first}..{simulator.action_space.count - 1}"
        )


def step_all(simulator: Simulator, actions: np.ndarray) -> None:
    """Check one action per episode, apply them, and run each episode to its next decision."""
    check_actions(simulator, actions)
    simulator.step(actions)
