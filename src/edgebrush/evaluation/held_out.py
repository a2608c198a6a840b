"""Play policies on the same held-out episodes, and reduce each policy's tasks to a digest."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgebrush.evaluation import EVALUATED_TASKS
from edgebrush.evaluation.episodes import play
from edgebrush.evaluation.statistics import Digest, digest, join, load_edges
from edgebrush.policies.protocol import Policy
from edgebrush.progress import ProgressCallback, no_progress
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.episode_seeds import HELD_OUT_SEEDS
from edgebrush.sim.state import OUTCOME

EPISODES = (32, 1000)  # minimum and maximum, by default
TASKS_AT_ONCE = 400_000  # in memory while a policy is played
TASK_COLUMNS = ("policy", "training_seed", *(OUTCOME.names or ()))


def default_episodes(scenario: Scenario) -> int:
    """The number of held-out episodes that has about ``EVALUATED_TASKS`` tasks."""
    wanted = EVALUATED_TASKS / (scenario.task_rate_hz * scenario.horizon_s)
    return int(np.clip(round(wanted), *EPISODES))


def play_all(
    scenario: Scenario,
    policies: dict[str, list[Policy]],
    episodes: int,
    tasks_csv: Path | None = None,
    progress: ProgressCallback = no_progress,
) -> dict[str, list[Digest]]:
    """By policy, one digest per training seed, all on the same held-out episodes.

    ``policies`` has the policies of all training seeds by name; a rule has one. ``tasks_csv`` gets every task.
    """
    seeds = HELD_OUT_SEEDS + np.arange(episodes)
    at_once = max(1, int(TASKS_AT_ONCE / (scenario.task_rate_hz * scenario.horizon_s)))
    chunks = [seeds[first : first + at_once] for first in range(0, episodes, at_once)]
    total = episodes * sum(len(group) for group in policies.values())
    done, edges = 0, None
    digests: dict[str, list[Digest]] = {name: [] for name in policies}
    with _task_log(tasks_csv) as log:
        for name, group in policies.items():
            for number, policy in enumerate(group, 1):
                parts = []
                for chunk in chunks:
                    progress("playing held-out episodes", done / total, name)
                    outcomes = play(scenario, policy, chunk)
                    if edges is None:  # the arrivals are the same for all policies
                        edges = load_edges(outcomes)
                    parts.append(digest(scenario, outcomes, len(chunk), edges))
                    outcomes["episode"] += chunk[0] - seeds[0]
                    log((name, number if len(group) > 1 else "", *row) for row in outcomes.tolist())
                    done += len(chunk)
                digests[name].append(join(parts))
    progress("playing held-out episodes", 1.0, "")
    return digests


@contextmanager
def _task_log(path: Path | None) -> Iterator[Callable]:
    """A function that writes rows of tasks to a CSV file; it ignores them where there is no path."""
    if path is None:
        yield lambda rows: None
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(TASK_COLUMNS)
        yield writer.writerows
