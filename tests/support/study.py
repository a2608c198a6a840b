"""A tiny study, a tiny training of MAPPO, and its numbers."""

import csv

import numpy as np
from safetensors.numpy import load_file

from edgebrush.jobs.local import LocalExecutor
from edgebrush.jobs.training import TrainingJob
from edgebrush.learning import CURVE
from edgebrush.learning.registry import configure
from edgebrush.policies.rules import KINDS, tunable_parameters
from edgebrush.study.findings import Plan
from edgebrush.study.reproduce import reproduce
from edgebrush.tuning.cmaes import Budget

PLAN = Plan(
    seeds=3,
    point_seeds=2,
    decisions=64,
    point_decisions=32,
    factors=1,
    episodes=6,
    point_episodes=3,
    budget=Budget(16, 2),
)


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def tiny_study(tiny, folder, **changes):
    return reproduce(tiny, folder, PLAN, **({"executor": LocalExecutor(2)} | changes))


SMALL = {"copies": 2, "groups": 2, "length": 8, "minibatches": 2, "epochs": 1, "critic_updates": 0}


def tiny_training(scenario, cache, seed=1, updates=40):
    """A job that trains MAPPO for some updates of 32 decisions."""
    config = configure("mappo", SMALL, seconds=None, decisions=32 * updates)
    prices = [parameter.start for parameter in tunable_parameters(KINDS["priced-greedy"], scenario.bs_count)]
    return TrainingJob(scenario, "mappo", "mappo", config, seed, np.array(prices), cache)


def numbers(job):
    """A training's curve and weights, exactly, without the seconds, which differ from run to run."""
    curve = [{name: value for name, value in row.items() if name != "seconds"} for row in read(job.path / CURVE)]
    weights = load_file(next(job.policy.glob("*.safetensors")))
    return curve, {name: (value.dtype, value.shape, value.tobytes()) for name, value in weights.items()}
