"""Gymnasium's interfaces: the team as one agent, in one episode or in many at once."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from edgebrush.errors import UserError
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.simulator import Simulator

from .common import RENDER_MODES, SEEDS, box, check_render_mode, observe_all, step_all


class MergedEnv(gymnasium.Env):
    """The decisions of all UEs, in the order in which they are due, as one trajectory.

    ``info`` holds ``action_mask (actions,)`` int8 for the decision that is due and ``gap_s``, the seconds that the
    reward covers. With slots, the decisions of a slot follow one another with gaps of 0.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 10}  # noqa: RUF012

    def __init__(self, scenario: Scenario, render_mode: str | None = None):
        self.scenario = scenario
        self.render_mode = check_render_mode(render_mode)
        self._simulator = Simulator(scenario, 1)
        self.layout = self._simulator.layout
        self.observation_space = box(self.layout.size)
        self.action_space = spaces.Discrete(self._simulator.action_space.count)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Start episode ``seed`` (None: a fresh one) and run to its first decision."""
        super().reset(seed=seed)
        self._simulator.reset(np.array([self.np_random.integers(SEEDS) if seed is None else seed]))
        observations, masks = observe_all(self._simulator)
        return observations[0], {"action_mask": masks[0], "gap_s": 0.0}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Apply an action and run to the next decision."""
        simulator = self._simulator
        step_all(simulator, np.array([action]))
        observations, masks = observe_all(simulator)
        info = {"action_mask": masks[0], "gap_s": float(simulator.gaps_s[0])}
        return observations[0], float(simulator.rewards[0]), not simulator.alive[0], False, info

    def render(self) -> np.ndarray | None:
        """The world as an image ``(height, width, 3)`` uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        from .render import draw_world

        return draw_world(self._simulator)


class MergedVectorEnv(VectorEnv):
    """``MergedEnv`` for E episodes at once, in compiled code on all cores.

    Autoreset is in the same step: where an episode has drained, the observation is already the first one of the
    next episode, and ``infos["final_obs"]`` and ``infos["final_info"]`` hold the end of the old one.
    ``infos["action_mask"] (E, actions)`` belongs to the returned observations, ``infos["gap_s"] (E,)`` to the
    returned rewards. ``reset(seed=s)`` starts the episodes s to s + E - 1.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": RENDER_MODES,
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, scenario: Scenario, episodes: int, render_mode: str | None = None):
        if episodes < 1:
            raise UserError(f"episodes = {episodes}: give at least 1")
        self.scenario = scenario
        self.num_envs = episodes
        self.render_mode = check_render_mode(render_mode)
        self._simulator = Simulator(scenario, episodes)
        self.layout = self._simulator.layout
        self.single_observation_space = box(self.layout.size)
        self.single_action_space = spaces.Discrete(self._simulator.action_space.count)
        self.observation_space = batch_space(self.single_observation_space, episodes)
        self.action_space = batch_space(self.single_action_space, episodes)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Start the episodes ``seed``, ``seed + 1``, ... (None: fresh ones), each at its first decision."""
        super().reset(seed=seed)
        self._simulator.reset(self._fresh_seeds() if seed is None else seed + np.arange(self.num_envs))
        observations, masks = observe_all(self._simulator)
        return observations, {"action_mask": masks, "gap_s": np.zeros(self.num_envs)}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Apply one action per episode, ``(E,)``, and run each to its next decision."""
        simulator = self._simulator
        step_all(simulator, np.asarray(actions))
        rewards, gaps_s, over = simulator.rewards.copy(), simulator.gaps_s.copy(), ~simulator.alive
        infos: dict[str, Any] = {"gap_s": gaps_s}
        if over.any():
            infos |= self._final_infos(over, gaps_s)
            simulator.reset(self._fresh_seeds(), which=over)
        observations, infos["action_mask"] = observe_all(simulator)
        return observations, rewards, over, np.zeros(self.num_envs, np.bool_), infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The world of each episode as an image ``(height, width, 3)`` uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        from .render import draw_world

        return tuple(draw_world(self._simulator, e) for e in range(self.num_envs))

    def _final_infos(self, over: np.ndarray, gaps_s: np.ndarray) -> dict[str, Any]:
        """The ends of the episodes in the mask ``over (E,)``, in the layout that Gymnasium prescribes."""
        final_obs = np.full(self.num_envs, None, object)
        for e in np.flatnonzero(over):
            final_obs[e] = np.zeros(self.layout.size, np.float32)
        final_info = {"gap_s": np.where(over, gaps_s, 0.0), "_gap_s": over}
        return {"final_obs": final_obs, "_final_obs": over, "final_info": final_info, "_final_info": over}

    def _fresh_seeds(self) -> np.ndarray:
        return self.np_random.integers(SEEDS, size=self.num_envs)
