"""Play whole episodes with a policy: the same seeds give every policy the same arrivals, tasks and channels.

A random number for a policy is a hash of the episode's seed and the decision's number, so results are reproducible and
do not depend on how many episodes run in parallel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba.extending import register_jitable

from edgebrush.policies import rules
from edgebrush.policies.protocol import Policy
from edgebrush.policies.rules import KINDS, Rule
from edgebrush.scenario.schema import Scenario
from edgebrush.sim import draws
from edgebrush.sim.compile import compiled, spread
from edgebrush.sim.simulator import Simulator, compiled_parameters, episode_world, records_needed
from edgebrush.sim.world import advance, decide, observe, reset

BATCH = 256  # episodes that run in parallel

for helper in rules.COMPILED_HELPERS:
    register_jitable(helper)
choose = compiled(rules.choose)


@compiled
def _draw(world):
    episode = world.episode[0]
    return draws.uniform(episode.seed, draws.POLICY, episode.decisions, 0)


@compiled(entry=True)
def draw_all(worlds, out):
    """The random number of each episode's next decision, into ``out (E,)``."""
    for e in range(out.shape[0]):
        out[e] = _draw(episode_world(worlds, e))


@compiled(entry=True)
def _rule_kernel(
    first, last, params, worlds, seeds, horizon_s, kind, numbers, slots, classes, observations, cost, tasks
):
    """Play the episodes ``first`` to ``last`` with rule ``kind``, episode e with the parameters ``numbers[e]``."""
    scenario = compiled_parameters(params)
    for e in range(first, last):
        world = episode_world(worlds, e)
        reset(scenario, world, seeds[e], horizon_s)
        while advance(scenario, world):
            observe(scenario, world, observations[e])
            draw = _draw(world)
            action = choose(kind, numbers[e], slots, params.step_grid, classes, observations[e], draw)
            decide(scenario, world, action)
        cost[e], tasks[e] = world.episode[0].cost, world.episode[0].ended


def _play_rule(
    simulator: Simulator, kind: int, parameters: np.ndarray, seeds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cost and number of tasks ``(E,)`` of each episode under a rule with the parameters ``(E, n)``."""
    episodes = len(seeds)
    cost, tasks = np.zeros(episodes), np.zeros(episodes)
    spread(
        _rule_kernel,
        episodes,
        simulator.threads,
        simulator.params,
        simulator.worlds,
        seeds,
        simulator.scenario.horizon_s,
        kind,
        parameters,
        simulator.action_space.slots,
        simulator.action_space.classes,
        simulator.observations,
        cost,
        tasks,
    )
    return cost, tasks


class RuleEvaluator:
    """Costs of a rule with many settings of its parameters on the same episodes (see ``tuning.cmaes.Evaluator``)."""

    def __init__(self, scenario: Scenario, rule: str, seeds: np.ndarray, settings: int):
        """``settings``: the most parameter vectors that ``costs`` gets."""
        self.seeds, self.kind = np.asarray(seeds, np.int64), KINDS[rule]
        self.simulator = Simulator(scenario, settings * len(seeds))

    def costs(self, settings: Sequence[np.ndarray]) -> np.ndarray:
        """Mean cost per task ``(S,)`` of each of ``S`` parameter vectors."""
        shape = (len(settings), len(self.seeds))
        parameters = np.repeat(np.asarray(settings, float), len(self.seeds), axis=0)
        cost, tasks = _play_rule(self.simulator, self.kind, parameters, np.tile(self.seeds, len(settings)))
        return cost.reshape(shape).sum(1) / tasks.reshape(shape).sum(1)


def play(scenario: Scenario, policy: Policy, seeds: np.ndarray) -> np.ndarray:
    """All tasks of the episodes of ``seeds`` as ``sim.state.OUTCOME`` rows; ``episode`` is an index into ``seeds``."""
    seeds = np.asarray(seeds, np.int64)
    simulator = Simulator(scenario, min(BATCH, len(seeds)), records=records_needed(scenario))
    parts = []
    for first in range(0, len(seeds), simulator.episodes):
        batch = seeds[first : first + simulator.episodes]
        wanted = np.arange(simulator.episodes) < len(batch)  # the last batch is filled up with repeated seeds
        outcomes = _play_batch(simulator, policy, np.resize(batch, simulator.episodes))
        outcomes = outcomes[wanted[outcomes["episode"]]]
        outcomes["episode"] += first
        parts.append(outcomes)
    return np.concatenate(parts)


def _play_batch(simulator: Simulator, policy: Policy, seeds: np.ndarray) -> np.ndarray:
    if isinstance(policy, Rule):
        _play_rule(simulator, policy.kind, np.tile(policy.parameters, (len(seeds), 1)), seeds)
        return simulator.outcomes()
    draw, choices = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    simulator.reset(seeds)
    while (alive := simulator.alive).any():  # some episodes end before others
        draw_all(simulator.worlds, draw)
        choices[alive] = policy.choose(simulator.observations[alive], draw[alive])
        simulator.step(choices)
    return simulator.outcomes()
