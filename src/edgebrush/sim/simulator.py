"""The simulator's public class: many episodes side by side, on all cores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgebrush.decision.observation import ObservationLayout
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.parameters import Params, build_params, trace_rows
from edgebrush.scenario.schema import BurstyArrivals, Scenario, TraceArrivals

from .compile import CORES, compiled, spread
from .global_state import GLOBAL_OF_BS, GLOBAL_OF_UE, GLOBAL_OF_WORLD, global_state
from .rows import rows
from .state import World, build_worlds
from .world import (
    advance,
    decide,
    observe,
    reset,
    take_reward,
)

EPISODES_PER_THREAD = 64  # with fewer episodes per thread, another thread costs more than it gains


@compiled
def compiled_parameters(params):
    """The parameters as ``Rows``; every compiled entry starts with this and ``episode_world``."""
    return Params(
        rows(params.common),
        rows(params.ue),
        rows(params.bs),
        rows(params.request),
        rows(params.content),
        rows(params.images),
        rows(params.step_grid),
        rows(params.log_step_grid),
        rows(params.trace_s),
        rows(params.trace_ue),
    )


@compiled
def episode_world(worlds, e):
    """The state of episode e as ``Rows``."""
    return World(
        rows(worlds.episode[e]),
        rows(worlds.ue[e]),
        rows(worlds.bs[e]),
        rows(worlds.band[e]),
        rows(worlds.neighbour[e]),
        rows(worlds.link[e]),
        rows(worlds.report[e]),
        rows(worlds.task[e]),
        rows(worlds.tree[e]),
        rows(worlds.outcome[e]),
        rows(worlds.scratch[e]),
    )


@compiled
def _observe_and_state(params, world, observation, state):
    if world.episode[0].done == 1:
        return
    if observation.shape[0] > 0:
        observe(params, world, observation)
    if state.shape[0] > 0:
        global_state(params, world, state)


@compiled(entry=True)
def _reset_or_step(
    first,
    last,
    params,
    worlds,
    resetting,
    which,
    seeds,
    horizon_s,
    choices,
    rewards,
    gaps,
    alive,
    observations,
    states,
):
    """One kernel for both, because both call ``advance``, which takes long to compile."""
    scenario = compiled_parameters(params)
    for e in range(first, last):
        if not which[e]:
            continue
        world = episode_world(worlds, e)
        if resetting:
            reset(scenario, world, seeds[e], horizon_s)
        elif world.episode[0].done == 1:
            rewards[e], gaps[e] = 0.0, 0.0
            continue
        else:
            decide(scenario, world, choices[e])
        alive[e] = advance(scenario, world)
        rewards[e], gaps[e] = take_reward(world)
        _observe_and_state(scenario, world, observations[e], states[e])


class Simulator:
    """E episodes of one scenario, each stopped at its next decision (or drained).

    ``reset`` and ``step`` write ``observations (E, layout.size)``, ``states (E, state_size)``, ``rewards (E,)``,
    ``gaps_s (E,)`` and ``alive (E,)`` in place. The reward of a step is minus the cost accrued from that decision to
    the next one, and ``gaps_s`` the time between them. After ``reset`` they cover the time before the first decision,
    which costs something only in slotted mode, where tasks wait for the first slot.

    ``records`` is how many ended tasks each episode can keep for ``outcomes``. ``threads`` is how many threads share
    the episodes (None: one per core); the numbers do not depend on it.
    """

    def __init__(
        self,
        scenario: Scenario,
        episodes: int,
        *,
        records: int = 0,
        states: bool = False,
        threads: int | None = None,
    ):
        self.scenario = scenario
        self.episodes = episodes
        self.threads = min(threads or CORES, episodes)
        self.params = build_params(scenario)
        self.action_space = action_space(scenario)
        self.worlds = build_worlds(scenario, self.action_space, episodes, records)
        self.layout = ObservationLayout(self.action_space)
        self.state_size = state_size(scenario) if states else 0
        self.observations = np.zeros((episodes, self.layout.size), np.float32)
        self.states = np.zeros((episodes, self.state_size), np.float32)
        self.rewards = np.zeros(episodes)
        self.gaps_s = np.zeros(episodes)
        self.alive = np.zeros(episodes, np.bool_)
        self._all = np.ones(episodes, np.bool_)
        self._no_choices = self._no_seeds = np.zeros(episodes, np.int64)

    def reset(self, seeds: np.ndarray, *, horizon_s: float | None = None, which: np.ndarray | None = None) -> None:
        """Start the episodes of ``seeds (E,)`` (those in the mask ``which``) and run to their first decision.

        ``horizon_s`` replaces the scenario's; infinity never stops the arrivals.
        """
        horizon_s = self.scenario.horizon_s if horizon_s is None else horizon_s
        which = self._all if which is None else np.ascontiguousarray(which, np.bool_)
        seeds = np.ascontiguousarray(seeds, np.int64)
        if seeds.shape != which.shape or seeds.shape != (self.episodes,):
            raise ValueError(f"seeds {seeds.shape} and which {which.shape} must hold {self.episodes} entries")
        self._run(True, which, seeds, horizon_s, self._no_choices)

    def step(self, choices: np.ndarray) -> None:
        """Apply one joint choice per episode, ``(E,)``, and run each to its next decision."""
        choices = np.ascontiguousarray(choices, np.int64)
        if choices.shape != (self.episodes,):
            raise ValueError(f"choices {choices.shape} must hold one for each of {self.episodes} episodes")
        if choices.min(initial=0) < 0 or choices.max(initial=0) >= self.action_space.count:
            raise ValueError(f"a choice lies outside 0..{self.action_space.count - 1}")
        self._run(False, self._all, self._no_seeds, 0.0, choices)

    def spread(self, kernel: Callable, *arguments) -> None:
        """Run a compiled entry ``kernel(first, last, *arguments)`` over all episodes, on all threads."""
        spread(kernel, self.episodes, self.threads, *arguments)

    def _run(self, resetting: bool, which, seeds, horizon_s: float, choices) -> None:
        given = (self.params, self.worlds, resetting, which, seeds, float(horizon_s), choices)
        buffers = self.rewards, self.gaps_s, self.alive, self.observations, self.states
        threads = min(self.threads, 1 + self.episodes // EPISODES_PER_THREAD)
        spread(_reset_or_step, self.episodes, threads, *given, *buffers)
        if self.worlds.episode["overflow"].any():
            raise RuntimeError("a task table overflowed: this is a defect of edgebrush, please report the scenario")

    def outcomes(self) -> np.ndarray:
        """The ended tasks of all episodes as one structured array (``state.OUTCOME``), in episode order."""
        recorded = self.worlds.episode["recorded"][:, 0]
        room = self.worlds.outcome.shape[1]
        if recorded.max(initial=0) > room:
            raise RuntimeError(f"{recorded.max()} tasks ended in one episode, but only {room} can be recorded")
        parts = []
        for e, count in enumerate(recorded):
            part = self.worlds.outcome[e, :count].copy()
            part["episode"] = e
            parts.append(part)
        return np.concatenate(parts)


def records_needed(scenario: Scenario) -> int:
    """Upper bound of the tasks in one episode: one long burst, or the busiest window of the trace."""
    arrivals = scenario.arrivals
    if isinstance(arrivals, TraceArrivals):
        time_s, _, span_s = trace_rows(scenario)
        until = np.searchsorted(np.concatenate([time_s, time_s + span_s]), time_s + scenario.horizon_s, "right")
        return int((until - np.arange(len(time_s))).max())
    requests = sum(ue.count * ue.rate_factor for ue in scenario.ues) * arrivals.rate_hz * scenario.horizon_s
    if isinstance(arrivals, BurstyArrivals):
        requests *= max(arrivals.calm, arrivals.burst)
    deviations = 10.0 * max(scenario.images_per_request) * requests**0.5
    return int(scenario.images_mean * requests + deviations + 100)


def state_size(scenario: Scenario) -> int:
    """Length of the global state."""
    per_bs = GLOBAL_OF_BS + 3 * scenario.decision.classes
    return GLOBAL_OF_WORLD + scenario.bs_count * per_bs + scenario.ue_count * GLOBAL_OF_UE
