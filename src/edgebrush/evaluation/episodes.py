"""Whole episodes under a policy: the same seeds give every policy the same arrivals, tasks and channels.

Every draw that a policy uses is a hash of (episode seed, decision number), so a policy's result is exactly
reproducible and does not depend on how many episodes run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba.extending import register_jitable

from edgebrush.decision.action_space import encode_action
from edgebrush.policies import rules
from edgebrush.policies.protocol import Policy
from edgebrush.policies.rules import KINDS, Rule
from edgebrush.scenario.schema import Scenario
from edgebrush.sim import draws
from edgebrush.sim.compile import compiled, spread
from edgebrush.sim.simulator import Simulator, compiled_parameters, episode_world, records_needed
from edgebrush.sim.world import advance, decide, observe, reset

SIDE_BY_SIDE = 256  # episodes that a policy decides for at once

for helper in (rules._place, rules._score, rules._weigh, rules._price, encode_action):
    register_jitable(helper)
choose = compiled(rules.choose)


@compiled
def _draw(world):
    episode = world.episode[0]
    return draws.uniform(episode.seed, draws.POLICY, episode.decisions, 0)


@compiled(entry=True)
def _play_rule(first, last, params, worlds, seeds, horizon_s, kind, numbers, slots, classes, observations, cost, tasks):
    """Episode e under numbers[e]: whole, inside one compiled loop."""
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


@compiled(entry=True)
def draw_all(worlds, out):
    for e in range(out.shape[0]):
        out[e] = _draw(episode_world(worlds, e))


class RuleEvaluator:
    """Costs of many settings of one rule on the same episodes: what a tuner asks for, over and over."""

    def __init__(self, scenario: Scenario, rule: str, seeds: np.ndarray, settings: int):
        self.seeds, self.kind = np.asarray(seeds, np.int64), KINDS[rule]
        self.simulator = Simulator(scenario, settings * len(seeds))

    def costs(self, numbers: Sequence[np.ndarray]) -> np.ndarray:
        """Mean cost per task ``(settings,)`` of each row of ``numbers``."""
        simulator, count = self.simulator, len(self.seeds)
        settings = len(numbers)
        cost, tasks = np.zeros(settings * count), np.zeros(settings * count)
        spread(
            _play_rule,
            settings * count,
            simulator.threads,
            simulator.params,
            simulator.worlds,
            np.tile(self.seeds, settings),
            simulator.scenario.horizon_s,
            self.kind,
            np.repeat(np.asarray(numbers, float), count, axis=0),
            simulator.action_space.slots,
            simulator.action_space.classes,
            simulator.observations,
            cost,
            tasks,
        )
        return cost.reshape(settings, count).sum(1) / tasks.reshape(settings, count).sum(1)


def play(scenario: Scenario, policy: Policy, seeds: np.ndarray) -> np.ndarray:
    """All tasks of the episodes of ``seeds`` under a policy: ``tables.OUTCOME`` rows, ``episode`` counting seeds."""
    seeds = np.asarray(seeds, np.int64)
    simulator = Simulator(scenario, min(SIDE_BY_SIDE, len(seeds)), records=records_needed(scenario))
    parts = []
    for first in range(0, len(seeds), simulator.episodes):
        chunk = seeds[first : first + simulator.episodes]
        which = np.arange(simulator.episodes) < len(chunk)
        outcomes = _play_chunk(simulator, policy, np.resize(chunk, simulator.episodes))
        outcomes = outcomes[which[outcomes["episode"]]]
        outcomes["episode"] += first
        parts.append(outcomes)
    return np.concatenate(parts)


def _play_chunk(simulator: Simulator, policy: Policy, seeds: np.ndarray) -> np.ndarray:
    if isinstance(policy, Rule):
        numbers = np.tile(policy.numbers, (len(seeds), 1))
        spread(
            _play_rule,
            len(seeds),
            simulator.threads,
            simulator.params,
            simulator.worlds,
            seeds,
            simulator.scenario.horizon_s,
            policy.kind,
            numbers,
            simulator.action_space.slots,
            simulator.action_space.classes,
            simulator.observations,
            np.zeros(len(seeds)),
            np.zeros(len(seeds)),
        )
        return simulator.outcomes()
    draw, choices = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    simulator.reset(seeds)
    while (alive := simulator.alive).any():  # episodes of many tasks go on when others have drained
        draw_all(simulator.worlds, draw)
        choices[alive] = policy.choose(simulator.observations[alive], draw[alive])
        simulator.step(choices)
    return simulator.outcomes()
