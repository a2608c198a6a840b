"""Polishing: CMA-ES over the prices of a trained actor, which is deployed with less exploration than it learned with.

A policy gradient finds the prices that are best among UEs that still explore. The deployed policy is less random, and
slightly different prices are best for it. Prices, urgency and biases are searched as a rule's parameters are: whole
tuning episodes, common random numbers. All other weights of the network stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from edgebrush.progress import ShareCallback, no_share
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.simulator import Simulator
from edgebrush.tuning.cmaes import Budget, cma_search

POLISHED = (  # the actor's weights that are searched
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
SPREAD = 0.03  # initial standard deviation, relative to a weight's mean magnitude; absolute for logarithms


class ActorEvaluator:
    """Costs of an actor with many settings of its ``POLISHED`` weights on the same episodes."""

    def __init__(self, scenario: Scenario, actor: Actor, seeds: np.ndarray, settings: int):
        self.seeds, self.actor = np.asarray(seeds, np.int64), actor
        self.simulator = Simulator(scenario, settings * len(seeds))
        axes = {name: 0 if name in POLISHED else None for name in actor.weights}

        def choose(weights, observations, draws):
            return draw_choice(acting.logits(weights, actor.layout, observations, jnp), draws, jnp)

        self.choose = jax.jit(jax.vmap(choose, in_axes=(axes, 0, 0)))

    def costs(self, settings: Sequence[np.ndarray]) -> np.ndarray:
        """Mean cost per task ``(S,)`` of each of ``S`` parameter vectors, see ``with_polished``."""
        simulator, shape = self.simulator, (len(settings), len(self.seeds))
        each = [with_polished(self.actor.weights, row) for row in settings]
        weights = self.actor.weights | {name: np.stack([row[name] for row in each]) for name in POLISHED}
        draws = np.zeros(simulator.episodes)
        simulator.reset(np.tile(self.seeds, len(settings)))
        while simulator.alive.any():
            draw_all(simulator.worlds, draws)
            observations = simulator.observations.reshape(*shape, -1)
            choices = self.choose(weights, observations, draws.reshape(shape).astype(np.float32))
            simulator.step(np.asarray(choices).ravel())
        episode = simulator.worlds.episode.reshape(shape)
        return episode["cost"].sum(1) / episode["ended"].sum(1)


def polished_weights(weights: dict[str, np.ndarray]) -> np.ndarray:
    """The ``POLISHED`` weights of an actor as one vector."""
    return np.concatenate([weights[name].ravel() for name in POLISHED]).astype(float)


def with_polished(weights: dict[str, np.ndarray], vector: np.ndarray) -> dict[str, np.ndarray]:
    """The actor's weights with the ``POLISHED`` ones replaced from a vector."""
    ends = np.cumsum([weights[name].size for name in POLISHED])[:-1]
    parts = zip(POLISHED, np.split(vector, ends), strict=True)
    return weights | {name: part.reshape(weights[name].shape).astype(np.float32) for name, part in parts}


def polish(
    scenario: Scenario,
    folder: Path,
    out: Path,
    budget: Budget,
    command: str,
    progress: ShareCallback = no_share,
) -> list[float]:
    """Polish the actor of a policy folder for a scenario.

    ``out`` becomes a policy folder with the better actor on validation episodes, before or after, and the search's
    log. Returns the costs on validation episodes before and after. Raises ``UserError`` where the folder holds no
    policy for the scenario, or one without these weights.
    """
    policy = load_policy(folder, scenario)
    if not isinstance(policy, Actor):
        raise UserError(f"{folder}: {policy.name} has no prices of an actor to polish; give a policy of kind softmax")
    weights = policy.weights
    spread = [np.full(weights[name].size, SPREAD * _scale(name, weights[name])) for name in POLISHED]
    make_evaluator = partial(ActorEvaluator, scenario, policy)
    found = cma_search(polished_weights(weights), np.concatenate(spread), make_evaluator, budget, progress)
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    name, kind = f"{about.pop('name')}-polished", about.pop("kind")
    polished = {"command": command, **asdict(budget), "cost_before": found.costs[0], "cost": min(found.costs)}
    save_policy(out, name, with_polished(weights, found.parameters), {**about, "polished": polished}, kind)
    write_csv(out / LOG, found.log)
    return found.costs


def _scale(name: str, weight: np.ndarray) -> float:
    """The magnitude relative to which a weight is varied."""
    return 1.0 if name.startswith("log_") else max(float(np.abs(weight).mean()), 1e-3)
