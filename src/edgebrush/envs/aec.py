"""PettingZoo's agent-environment cycle: one UE decides at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pettingzoo

from edgebrush.errors import UserError
from edgebrush.scenario.schema import Scenario

from .common import RENDER_MODES, action_mask
from .team import Team


class AecEnv(Team, pettingzoo.AECEnv):
    """PettingZoo's agent-environment cycle: the UE whose task has just arrived is the selected agent.

    An agent that is not selected observes zeros with a mask of zeros. Rewards are the team's, the same for every
    agent. ``last()`` returns what accrued since the agent's own last decision, over the ``info["gap_s"]`` seconds
    since then. Raises ``UserError`` where the scenario is slotted.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "name": "edgebrush_aec_v0",
        "render_modes": RENDER_MODES,
        "is_parallelizable": False,
    }

    def __init__(self, scenario: Scenario, render_mode: str | None = None):
        if scenario.decision.interval_s > 0:
            raise UserError(
                f"scenario {scenario.name!r}: decision.interval_s = {scenario.decision.interval_s:g} has UEs "
                "decide at once, in slots; set it to 0, or use kind='parallel'"
            )
        super().__init__(scenario, render_mode)

    def reset(self, seed: int | None = None, options: dict | None = None) -> None:
        """Start episode ``seed`` (None: a fresh one) and run to its first decision."""
        self._start(seed)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {"gap_s": 0.0} for agent in self.agents}
        self._select_agent()

    def step(self, action: int) -> None:
        """Apply the selected agent's action (None after the end) and run to the next decision."""
        if self.terminations[self.agent_selection]:
            self._was_dead_step(action)
            return
        reward, gap_s = self._apply(action)
        self._cumulative_rewards[self.agent_selection] = 0.0
        self.infos[self.agent_selection] = {"gap_s": 0.0}
        self.rewards = dict.fromkeys(self.agents, reward)
        self._accumulate_rewards()
        self.infos = {agent: {"gap_s": info["gap_s"] + gap_s} for agent, info in self.infos.items()}
        self._select_agent()

    def observe(self, agent: str) -> dict[str, np.ndarray]:
        """The local observation of the selected agent; zeros for every other."""
        selected = self._alive and agent == self.agent_selection
        observation = self._simulator.observations[0].copy() if selected else np.zeros(self.layout.size, np.float32)
        return {"observation": observation, "action_mask": action_mask(self.layout, observation)}

    def _select_agent(self) -> None:
        """Select the UE whose task waits for a decision; once drained, all agents terminate in turn."""
        self.terminations = dict.fromkeys(self.agents, not self._alive)
        worlds = self._simulator.worlds
        self.agent_selection = self.agents[0]
        if self._alive:
            self.agent_selection = self.agents[worlds.task["ue"][0, worlds.episode["deciding"][0, 0]]]
