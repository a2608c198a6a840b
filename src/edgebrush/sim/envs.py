"""Standard interfaces over the simulator, so that others' learners run on it unchanged.

- ``AecEnv``, PettingZoo's ``AECEnv``: one UE decides at a time, the one whose task has just arrived.
- ``SlottedEnv``, PettingZoo's ``ParallelEnv``: one step is one slot; all UEs with a task decide at once.
- ``MergedEnv``, Gymnasium's ``Env``: the decisions of all UEs, one after the other, as one trajectory.
- ``MergedVectorEnv``, Gymnasium's ``VectorEnv``: the same over many episodes at once, in compiled code.

In all of them an action is the number of a joint choice (target, steps, class), see ``decision/choices.py``;
an observation is the vector of ``decision/observation.py``; the reward is minus the cost that accrued, over
all tasks of all UEs, in the ``gap_s`` seconds that the info states. An episode ends when it has drained.

The action mask says which targets look usable: the own device, whether its queue has a place; a BS, what its
last broadcast told. A masked choice may be made all the same and meets what it meets: a full BS refuses, a
full device loses the task. Only with ``decision.local: false`` is the own device out of bounds.

``reset(seed=s)`` starts episode s, the one that the whole package knows by it; ``reset()`` a fresh one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, overload

import gymnasium
import numpy as np
import pettingzoo
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from edgebrush.decision.observation import PRESENT, ObservationLayout
from edgebrush.errors import UserError
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.parameters import NONE
from edgebrush.scenario.schema import Scenario

from .compile import compiled
from .global_state import GLOBAL_OF_UE
from .simulator import Simulator, compiled_parameters, episode_world
from .world import observe

SEEDS = 2**62  # fresh episodes are drawn from so many


@overload
def make(scenario: str | Path | Scenario = ..., kind: Literal["aec"] = ...) -> AecEnv: ...
@overload
def make(scenario: str | Path | Scenario, kind: Literal["parallel"]) -> SlottedEnv: ...
@overload
def make(scenario: str | Path | Scenario, kind: Literal["single"]) -> MergedEnv: ...
@overload
def make(scenario: str | Path | Scenario, kind: Literal["vector"], *, episodes: int = ...) -> MergedVectorEnv: ...
def make(scenario="campus", kind="aec", *, episodes=64):
    """The environment of a scenario, in one of the standard interfaces.

    ``scenario`` is a preset's name, a YAML file or a ``Scenario``. ``kind`` is one of

    - ``"aec"``: ``AecEnv``, PettingZoo's agent-environment cycle; needs ``decision.interval_s = 0``.
    - ``"parallel"``: ``SlottedEnv``, PettingZoo's parallel interface; needs ``decision.interval_s > 0``.
    - ``"single"``: ``MergedEnv``, a Gymnasium environment: one decision maker for the whole team.
    - ``"vector"``: ``MergedVectorEnv``, the same for so many ``episodes`` at once, by far the fastest.

    Only ``"vector"`` looks at ``episodes``.

    Raises ``UserError`` where the scenario cannot be used, or not in this interface.

    >>> env = edgebrush.make("campus", kind="vector", episodes=64)
    >>> observations, infos = env.reset(seed=0)  # (64, size) float32, infos["action_mask"] (64, choices)
    """
    if not isinstance(scenario, Scenario):
        scenario = load_scenario(scenario)
    if kind == "aec":
        return AecEnv(scenario)
    if kind == "parallel":
        return SlottedEnv(scenario)
    if kind == "single":
        return MergedEnv(scenario)
    if kind == "vector":
        return MergedVectorEnv(scenario, episodes)
    raise UserError(f"kind = {kind!r}: no such interface; use 'aec', 'parallel', 'single' or 'vector'")


def action_mask(layout: ObservationLayout, observations: np.ndarray) -> np.ndarray:
    """What observations ``(..., size)`` allow, ``(..., choices)`` int8: each choice of a present target."""
    _, candidates, _ = layout.split(observations)
    present = (candidates[..., PRESENT] > 0).astype(np.int8)
    return present.repeat(layout.shape.steps * layout.shape.classes, axis=-1)


class _Team:
    """What both PettingZoo environments are made of: one episode, its UEs as agents, the global state."""

    render_mode = None

    def __init__(self, scenario: Scenario, further_actions: int = 0):
        self.scenario = scenario
        self._simulator = Simulator(scenario, 1, states=True)
        self.layout = self._simulator.layout
        actions = self._simulator.shape.count + further_actions
        self.possible_agents = [f"ue_{i}" for i in range(scenario.ue_count)]
        self.agents: list[str] = []
        self.observation_spaces = {agent: self._observation_space(actions) for agent in self.possible_agents}
        self.action_spaces = {agent: spaces.Discrete(actions) for agent in self.possible_agents}
        self.state_space = _box(self._simulator.state_size)
        self._rng, _ = seeding.np_random()

    def observation_space(self, agent: str) -> spaces.Dict:
        """``observation (size,)`` float32 and ``action_mask (actions,)`` int8."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The joint choices (and, in slots, 'none')."""
        return self.action_spaces[agent]

    def state(self) -> np.ndarray:
        """The global state ``(state_size,)`` float32, see ``world.global_state``: for a critic alone.

        Zeros once the episode has drained.
        """
        state = self._simulator.states[0]
        return state.copy() if self._alive else np.zeros_like(state)

    def close(self) -> None:
        """Nothing is held open."""

    @property
    def _alive(self) -> bool:
        return bool(self._simulator.alive[0])

    def _observation_space(self, actions: int) -> spaces.Dict:
        mask = spaces.Box(0, 1, (actions,), np.int8)
        return spaces.Dict({"observation": _box(self.layout.size), "action_mask": mask})

    def _start(self, seed: int | None) -> None:
        if seed is not None:
            self._rng, _ = seeding.np_random(seed)
        self._simulator.reset(np.array([self._rng.integers(SEEDS) if seed is None else seed]))
        self.agents = self.possible_agents[:]

    def _apply(self, choice: int) -> tuple[float, float]:
        _apply(self._simulator, np.array([choice]))
        return float(self._simulator.rewards[0]), float(self._simulator.gaps_s[0])


class AecEnv(_Team, pettingzoo.AECEnv):
    """PettingZoo's agent-environment cycle: the UE whose task has just arrived decides, one at a time.

    An agent that is not asked observes zeros and has nothing to choose (its mask is zero). Rewards are the
    team's, the same for every agent. ``last()`` gives an agent what accrued since its own last decision, over
    the ``info["gap_s"]`` seconds since then. Raises ``UserError`` where the scenario is slotted.
    """

    metadata: dict[str, Any] = {"name": "edgebrush_aec_v0", "render_modes": [], "is_parallelizable": False}  # noqa: RUF012

    def __init__(self, scenario: Scenario):
        if scenario.decision.interval_s > 0:
            raise UserError(
                f"scenario {scenario.name!r}: decision.interval_s = {scenario.decision.interval_s:g} has UEs "
                "decide at once, in slots; set it to 0, or use kind='parallel'"
            )
        super().__init__(scenario)

    def reset(self, seed: int | None = None, options: dict | None = None) -> None:
        """Start episode ``seed`` (None: a fresh one) and run to its first decision."""
        self._start(seed)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {"gap_s": 0.0} for agent in self.agents}
        self._ask()

    def step(self, action: int) -> None:
        """Apply the choice of the agent that is asked (None after the end) and run to the next decision."""
        if self.terminations[self.agent_selection]:
            self._was_dead_step(action)
            return
        reward, gap_s = self._apply(action)
        self._cumulative_rewards[self.agent_selection] = 0.0
        self.infos[self.agent_selection] = {"gap_s": 0.0}
        self.rewards = dict.fromkeys(self.agents, reward)
        self._accumulate_rewards()
        self.infos = {agent: {"gap_s": info["gap_s"] + gap_s} for agent, info in self.infos.items()}
        self._ask()

    def observe(self, agent: str) -> dict[str, np.ndarray]:
        """The local observation of the agent that is asked; zeros for every other."""
        asked = self._alive and agent == self.agent_selection
        observation = self._simulator.observations[0].copy() if asked else np.zeros(self.layout.size, np.float32)
        return {"observation": observation, "action_mask": action_mask(self.layout, observation)}

    def _ask(self) -> None:
        """The agent whose task waits is next; once the episode has drained, each in turn says goodbye."""
        self.terminations = dict.fromkeys(self.agents, not self._alive)
        worlds = self._simulator.worlds
        self.agent_selection = self.agents[0]
        if self._alive:
            self.agent_selection = self.agents[worlds.task["ue"][0, worlds.episode["deciding"][0, 0]]]


class SlottedEnv(_Team, pettingzoo.ParallelEnv):
    """PettingZoo's parallel interface: in each slot every UE with a pending task decides its oldest one.

    All observations are those at the slot's start, so that none sees another's choice. The last action is
    'none': the only one that an agent without a pending task is offered (it observes zeros, and whatever it
    does is ignored), and not offered to the others. Slots in which nobody has a task are passed over;
    ``infos[agent]["gap_s"]`` is the time that a step took. Rewards are the team's, the same for every agent.
    Raises ``UserError`` where the scenario is not slotted.
    """

    metadata: dict[str, Any] = {"name": "edgebrush_slotted_v0", "render_modes": []}  # noqa: RUF012

    def __init__(self, scenario: Scenario):
        if scenario.decision.interval_s == 0:
            raise UserError(
                f"scenario {scenario.name!r}: decision.interval_s = 0 has each UE decide when its task "
                "arrives; set it to a slot's length in seconds, or use kind='aec'"
            )
        super().__init__(scenario, further_actions=1)
        self.none = self._simulator.shape.count
        self._observations = np.zeros((scenario.ue_count, self.layout.size), np.float32)
        self._pending = np.zeros(scenario.ue_count, np.bool_)

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Start episode ``seed`` (None: a fresh one) and run to the first slot that has a pending task."""
        self._start(seed)
        self._look()
        return self._observed(), {agent: {"gap_s": 0.0} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[dict, dict, dict, dict, dict]:
        """Apply all choices of this slot and run to the next slot that has a pending task.

        Raises ``ValueError``, before anything is applied, where an agent with a pending task makes no choice.
        """
        choices = [actions.get(f"ue_{i}", self.none) for i in np.flatnonzero(self._pending)]
        _check(self._simulator, np.array(choices))
        reward, gap_s = np.sum([self._apply(choice) for choice in choices], 0) if choices else (0.0, 0.0)
        self._look()
        agents, over = self.agents, not self._alive
        self.agents = [] if over else agents
        return (
            self._observed(),
            dict.fromkeys(agents, float(reward)),
            dict.fromkeys(agents, over),
            dict.fromkeys(agents, False),
            {agent: {"gap_s": float(gap_s)} for agent in agents},
        )

    def state(self) -> np.ndarray:
        """As ``_Team.state``; "decides" is set for every UE that has a pending task."""
        state = super().state()
        state[-GLOBAL_OF_UE * self.scenario.ue_count :].reshape(-1, GLOBAL_OF_UE)[:, -1] = self._pending
        return state

    def _look(self) -> None:
        self._observations[:], self._pending[:] = 0.0, False
        if self._alive:
            _observe_slot(self._simulator.params, self._simulator.worlds, self._observations, self._pending)

    def _observed(self) -> dict[str, dict[str, np.ndarray]]:
        allowed = action_mask(self.layout, self._observations)
        masks = np.column_stack([allowed, ~self._pending]).astype(np.int8)
        rows = zip(self.possible_agents, self._observations.copy(), masks, strict=True)
        return {agent: {"observation": row, "action_mask": mask} for agent, row, mask in rows}


@compiled(entry=True)
def _observe_slot(params, worlds, observations, pending):
    """Mark in ``pending (N,)`` who decides in this slot, and write their ``observations (N, size)``.

    Called at the slot's first decision, before any has decided.
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


class MergedEnv(gymnasium.Env):
    """The team's decisions, as they fall due, as one trajectory of a Gymnasium environment.

    ``info`` holds ``action_mask (choices,)`` int8 for the decision that is due and ``gap_s``, the seconds
    that the reward covers. With slots, the decisions of a slot follow one another with gaps of 0.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, scenario: Scenario):
        self.scenario = scenario
        self._simulator = Simulator(scenario, 1)
        self.layout = self._simulator.layout
        self.observation_space = _box(self.layout.size)
        self.action_space = spaces.Discrete(self._simulator.shape.count)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Start episode ``seed`` (None: a fresh one) and run to its first decision."""
        super().reset(seed=seed)
        self._simulator.reset(np.array([self.np_random.integers(SEEDS) if seed is None else seed]))
        observations, masks = _look(self._simulator)
        return observations[0], {"action_mask": masks[0], "gap_s": 0.0}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Apply a joint choice and run to the next decision."""
        simulator = self._simulator
        _apply(simulator, np.array([action]))
        observations, masks = _look(simulator)
        info = {"action_mask": masks[0], "gap_s": float(simulator.gaps_s[0])}
        return observations[0], float(simulator.rewards[0]), not simulator.alive[0], False, info


class MergedVectorEnv(VectorEnv):
    """``MergedEnv`` for E episodes at once, in compiled code on all cores.

    Autoreset is in the same step: where an episode has drained, the observation is already the next one's
    first, and ``infos["final_obs"]`` and ``infos["final_info"]`` hold the end of the old one.
    ``infos["action_mask"] (E, choices)`` belongs to the returned observations, ``infos["gap_s"] (E,)`` to the
    returned rewards. ``reset(seed=s)`` starts the episodes s to s + E - 1.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, scenario: Scenario, episodes: int):
        if episodes < 1:
            raise UserError(f"episodes = {episodes}: give at least 1")
        self.scenario = scenario
        self.num_envs = episodes
        self._simulator = Simulator(scenario, episodes)
        self.layout = self._simulator.layout
        self.single_observation_space = _box(self.layout.size)
        self.single_action_space = spaces.Discrete(self._simulator.shape.count)
        self.observation_space = batch_space(self.single_observation_space, episodes)
        self.action_space = batch_space(self.single_action_space, episodes)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Start the episodes ``seed``, ``seed + 1``, ... (None: fresh ones), each at its first decision."""
        super().reset(seed=seed)
        self._simulator.reset(self._fresh_seeds() if seed is None else seed + np.arange(self.num_envs))
        observations, masks = _look(self._simulator)
        return observations, {"action_mask": masks, "gap_s": np.zeros(self.num_envs)}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Apply one joint choice per episode, ``(E,)``, and run each to its next decision."""
        simulator = self._simulator
        _apply(simulator, np.asarray(actions))
        rewards, gaps_s, over = simulator.rewards.copy(), simulator.gaps_s.copy(), ~simulator.alive
        infos: dict[str, Any] = {"gap_s": gaps_s}
        if over.any():
            infos |= self._finals(over, gaps_s)
            simulator.reset(self._fresh_seeds(), which=over)
        observations, infos["action_mask"] = _look(simulator)
        return observations, rewards, over, np.zeros(self.num_envs, np.bool_), infos

    def _finals(self, over: np.ndarray, gaps_s: np.ndarray) -> dict[str, Any]:
        """The ends of the episodes that are ``over (E,)``, in the layout that Gymnasium prescribes."""
        final_obs = np.full(self.num_envs, None, object)
        for e in np.flatnonzero(over):
            final_obs[e] = np.zeros(self.layout.size, np.float32)
        final_info = {"gap_s": np.where(over, gaps_s, 0.0), "_gap_s": over}
        return {"final_obs": final_obs, "_final_obs": over, "final_info": final_info, "_final_info": over}

    def _fresh_seeds(self) -> np.ndarray:
        return self.np_random.integers(SEEDS, size=self.num_envs)


def _box(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)


def _look(simulator: Simulator) -> tuple[np.ndarray, np.ndarray]:
    """Copies of all observations ``(E, size)``, and their masks ``(E, choices)``.

    A drained episode shows zeros and allows all: no learner can draw from a mask that allows nothing.
    """
    observations = np.where(simulator.alive[:, None], simulator.observations, np.float32(0.0))
    return observations, action_mask(simulator.layout, observations) | ~simulator.alive[:, None]


def _apply(simulator: Simulator, choices: np.ndarray) -> None:
    _check(simulator, choices)
    simulator.step(choices)


def _check(simulator: Simulator, choices: np.ndarray) -> None:
    first = 0 if simulator.scenario.decision.local else simulator.shape.steps * simulator.shape.classes
    if ((choices < first) | (choices >= simulator.shape.count)).any():
        raise ValueError(
            f"choices {choices.tolist()}: a pending task needs one of {first}..{simulator.shape.count - 1}"
        )
