"""PettingZoo's parallel interface: all UEs with a pending task decide at once, in slots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pettingzoo

from edgebrush.errors import UserError
from edgebrush.scenario.parameters import NONE
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.compile import compiled
from edgebrush.sim.global_state import GLOBAL_OF_UE
from edgebrush.sim.simulator import compiled_parameters, episode_world
from edgebrush.sim.world import observe

from .common import RENDER_MODES, action_mask, check_actions
from .team import Team


class SlottedEnv(Team, pettingzoo.ParallelEnv):
    """PettingZoo's parallel interface: in each slot every UE with a pending task decides its oldest one.

    All observations are taken at the start of the slot, so no agent sees another's choice. The last action is
    'none': the only valid one for an agent without a pending task (it observes zeros, and its action is ignored),
    invalid for the others. Slots in which no UE has a task are skipped; ``infos[agent]["gap_s"]`` is the time that
    a step took. Rewards are the team's, the same for every agent.
    Raises ``UserError`` where the scenario is not slotted.
    """

    metadata: dict[str, Any] = {"name": "edgebrush_slotted_v0", "render_modes": RENDER_MODES}  # noqa: RUF012

    def __init__(self, scenario: Scenario, render_mode: str | None = None):
        if scenario.decision.interval_s == 0:
            raise UserError(
                f"scenario {scenario.name!r}: decision.interval_s = 0 has each UE decide when its task "
                "arrives; set it to a slot's length in seconds, or use kind='aec'"
            )
        super().__init__(scenario, render_mode, further_actions=1)
        self.none = self._simulator.action_space.count
        self._observations = np.zeros((scenario.ue_count, self.layout.size), np.float32)
        self._pending = np.zeros(scenario.ue_count, np.bool_)

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Start episode ``seed`` (None: a fresh one) and run to the first slot with a pending task."""
        self._start(seed)
        self._observe_slot()
        return self._seen(), {agent: {"gap_s": 0.0} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        """Apply all actions of this slot and run to the next slot with a pending task.

        Raises ``ValueError``, before anything is applied, where an agent with a pending task has no valid action.
        """
        chosen = [actions.get(f"ue_{i}", self.none) for i in np.flatnonzero(self._pending)]
        check_actions(self._simulator, np.array(chosen))
        reward, gap_s = np.sum([self._apply(action) for action in chosen], 0) if chosen else (0.0, 0.0)
        self._observe_slot()
        agents, over = self.agents, not self._alive
        self.agents = [] if over else agents
        return (
            self._seen(),
            dict.fromkeys(agents, float(reward)),
            dict.fromkeys(agents, over),
            dict.fromkeys(agents, False),
            {agent: {"gap_s": float(gap_s)} for agent in agents},
        )

    def state(self) -> np.ndarray:
        """As ``Team.state``; "decides" is set for every UE with a pending task."""
        state = super().state()
        state[-GLOBAL_OF_UE * self.scenario.ue_count :].reshape(-1, GLOBAL_OF_UE)[:, -1] = self._pending
        return state

    def _observe_slot(self) -> None:
        self._observations[:], self._pending[:] = 0.0, False
        if self._alive:
            _observe_pending(self._simulator.params, self._simulator.worlds, self._observations, self._pending)

    def _seen(self) -> dict[str, dict[str, np.ndarray]]:
        """Observation and mask of every agent."""
        valid = action_mask(self.layout, self._observations)
        masks = np.column_stack([valid, ~self._pending]).astype(np.int8)
        rows = zip(self.possible_agents, self._observations.copy(), masks, strict=True)
        return {agent: {"observation": row, "action_mask": mask} for agent, row, mask in rows}


@compiled(entry=True)
def _observe_pending(params, worlds, observations, pending):
    """Mark in ``pending (N,)`` who decides in this slot, and write their ``observations (N, size)``.

    Called at the slot's first decision, before any has been made.
    """
    scenario = compiled_parameters(params)
    world = episode_world(worlds, 0)
    episode = world.episode[0]
    first = episode.deciding
    for i in range(observations.shape[0]):
        episode.deciding = first if i == world.task[first].ue else world.ue[i].pending_head
        pending[i] = episode.deciding != NONE
        if pending[i]:
            observe(scenario, world, observations[i])
    episode.deciding = first
