"""One run of a few rules on the tiny scenario, made without any tuning or training."""

import pytest

from edgebrush.evaluation.held_out import play_all
from edgebrush.evaluation.results import pool, results_of
from edgebrush.evaluation.run_folder import Run
from tests.support.evaluation import rule, tiny

__all__ = ["rule", "tiny"]
EPISODES = 8


@pytest.fixture(scope="session")
def make_run(tiny, rule):
    """Makes a run of rules by name; the first is no more than one of them."""

    def make(*names):
        played = play_all(tiny, {name: [rule(tiny, name)] for name in names}, EPISODES)
        results = results_of(tiny, played, EPISODES, "edgebrush evaluate", {"evaluation": 2.0})
        return Run(tiny, results, {name: pool(digests) for name, digests in played.items()}, [])

    return make


@pytest.fixture(scope="session")
def run(make_run):
    return make_run("selfish-greedy", "priced-greedy", "random", "local-only")
