"""The base of both PettingZoo environments: one episode, its UEs as agents, the global state."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding

from edgebrush.scenario.schema import Scenario
from edgebrush.sim.simulator import Simulator

from .common import SEEDS, box, check_render_mode, step_all


class Team:
    """Agents ``ue_0`` to ``ue_{N-1}`` of one episode; ``further_actions`` follow the joint choices."""

    def __init__(self, scenario: Scenario, render_mode: str | None, further_actions: int = 0):
        self.scenario = scenario
        self.render_mode = check_render_mode(render_mode)
        self._simulator = Simulator(scenario, 1, states=True)
        self.layout = self._simulator.layout
        actions = self._simulator.action_space.count + further_actions
        self.possible_agents = [f"ue_{i}" for i in range(scenario.ue_count)]
        self.agents: list[str] = []
        self.observation_spaces = {agent: self._observation_space(actions) for agent in self.possible_agents}
        self.action_spaces = {agent: spaces.Discrete(actions) for agent in self.possible_agents}
        self.state_space = box(self._simulator.state_size)
        self._rng, _ = seeding.np_random()

    def observation_space(self, agent: str) -> spaces.Dict:
        """``observation (size,)`` float32 and ``action_mask (actions,)`` int8."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The joint choices (and, in slots, 'none')."""
        return self.action_spaces[agent]

    def state(self) -> np.ndarray:
        """The global state ``(state_size,)`` float32, see ``world.global_state``: for a critic in training.

        Zeros once the episode has drained.
        """
        state = self._simulator.states[0]
        return state.copy() if self._alive else np.zeros_like(state)

    def render(self) -> np.ndarray | None:
        """The world as an image ``(height, width, 3)`` uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        from .render import draw_world

        return draw_world(self._simulator)

    def close(self) -> None:
        """Nothing to release."""

    @property
    def _alive(self) -> bool:
        return bool(self._simulator.alive[0])

    def _observation_space(self, actions: int) -> spaces.Dict:
        mask = spaces.Box(0, 1, (actions,), np.int8)
        return spaces.Dict({"observation": box(self.layout.size), "action_mask": mask})

    def _start(self, seed: int | None) -> None:
        if seed is not None:
            self._rng, _ = seeding.np_random(seed)
        self._simulator.reset(np.array([self._rng.integers(SEEDS) if seed is None else seed]))
        self.agents = self.possible_agents[:]

    def _apply(self, action: int) -> tuple[float, float]:
        """Apply one action; the reward, and the seconds that it covers."""
        step_all(self._simulator, np.array([action]))
        return float(self._simulator.rewards[0]), float(self._simulator.gaps_s[0])
