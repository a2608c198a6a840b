"""Polishing: a trained actor's prices, tuned as a rule's are.

A policy gradient learns what is best among others that explore as it does, and leaves a policy that is sharper. What
the actor's prices, urgency and biases had better be *then* is found as the priced greedy rule's numbers are: CMA-ES,
whole episodes on tuning seeds, common random numbers (tuning.py). All other weights of the network stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from edgebrush.errors import UserError
from edgebrush.evaluation.episodes import draw_all
from edgebrush.files import write_csv
from edgebrush.policies import actor as acting
from edgebrush.policies.actor import Actor, draw_choice
from edgebrush.policies.folder import ABOUT, save_policy
from edgebrush.policies.load import load_policy
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.simulator import Simulator
from edgebrush.tuning.cmaes import Budget, search

NUMBERS = (
    "prices",
    "growth",
    "price_own",
    "growth_own",
    "in_flight",
    "wait_factor",
    "log_kappa",
    "log_urgency",
    "class_slope",
    "b_out",
)
LOG = "polish.csv"
SPREAD = 0.03  # of the first candidates: of a weight's mean magnitude, or in the logarithm


class ActorTable:
    """Costs of many settings of an actor's ``NUMBERS`` on the same episodes, as ``RuleTable`` has them of a rule's."""

    def __init__(self, scenario: Scenario, actor: Actor, seeds: np.ndarray, settings: int):
        self.seeds, self.actor = np.asarray(seeds, np.int64), actor
        self.simulator = Simulator(scenario, settings * len(seeds))
        grid = jnp.asarray(actor.step_grid, jnp.float32)
        axes = {name: 0 if name in NUMBERS else None for name in actor.weights}

        def choose(weights, observations, draws):
            return draw_choice(acting.logits(weights, actor.layout, grid, observations, jnp), draws, jnp)

        self.choose = jax.jit(jax.vmap(choose, in_axes=(axes, 0, 0)))

    def costs(self, numbers: Sequence[np.ndarray]) -> np.ndarray:
        """Mean cost per task ``(settings,)`` of each row of ``numbers``."""
        simulator, shape = self.simulator, (len(numbers), len(self.seeds))
        each = [with_numbers(self.actor.weights, row) for row in numbers]
        weights = self.actor.weights | {name: np.stack([row[name] for row in each]) for name in NUMBERS}
        draws = np.zeros(simulator.episodes)
        simulator.reset(np.tile(self.seeds, len(numbers)))
        while simulator.alive.any():
            draw_all(simulator.worlds, draws)
            observations = simulator.observations.reshape(*shape, -1)
            choices = self.choose(weights, observations, draws.reshape(shape).astype(np.float32))
            simulator.step(np.asarray(choices).ravel())
        episode = simulator.worlds.episode.reshape(shape)
        return episode["cost"].sum(1) / episode["ended"].sum(1)


def numbers_in(weights: dict[str, np.ndarray]) -> np.ndarray:
    """``NUMBERS`` of an actor in one row."""
    return np.concatenate([weights[name].ravel() for name in NUMBERS]).astype(float)


def with_numbers(weights: dict[str, np.ndarray], numbers: np.ndarray) -> dict[str, np.ndarray]:
    """The actor's weights with these ``NUMBERS``."""
    ends = np.cumsum([weights[name].size for name in NUMBERS])[:-1]
    parts = zip(NUMBERS, np.split(numbers, ends), strict=True)
    return weights | {name: part.reshape(weights[name].shape).astype(np.float32) for name, part in parts}


def polish(
    scenario: Scenario,
    folder: Path,
    out: Path,
    budget: Budget,
    command: str,
    progress: Callable[[float], None] = lambda share: None,
) -> list[float]:
    """Polish the actor of a policy folder for a scenario; ``out`` gets the better, before or after, as another folder,
    with the search's log.

    Returns the costs on validation seeds, before and after. Raises ``UserError`` where the folder holds no policy for
    the scenario, or one without such numbers.
    """
    policy = load_policy(folder, scenario)
    if not isinstance(policy, Actor):
        raise UserError(f"{folder}: {policy.name} has no prices of an actor to polish; give a policy of kind softmax")
    weights = policy.weights
    spread = [np.full(weights[name].size, SPREAD * _size(name, weights[name])) for name in NUMBERS]
    table_of = partial(ActorTable, scenario, policy)
    numbers, costs, log = search(numbers_in(weights), np.concatenate(spread), table_of, budget, progress)
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    name, kind = f"{about.pop('name')}-polished", about.pop("kind")
    polished = {"command": command, **asdict(budget), "cost_before": costs[0], "cost": min(costs)}
    save_policy(out, name, with_numbers(weights, numbers), {**about, "polished": polished}, kind)
    write_csv(out / LOG, log)
    return costs


def _size(name: str, weight: np.ndarray) -> float:
    """What a change of a number is measured by."""
    return 1.0 if name.startswith("log_") else max(float(np.abs(weight).mean()), 1e-3)
