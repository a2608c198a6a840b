"""The comparison of a run's subject and rival on groups of tasks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgebrush.evaluation.run_folder import Run
from edgebrush.evaluation.statistics import METRICS, PER, Bootstrap, Interval

LOAD = "load"  # the dimension whose groups are the bins of the load
LOAD_NAMES = ("lowest fifth", "second fifth", "middle fifth", "fourth fifth", "highest fifth")


class Group(NamedTuple):
    """The subject's metrics on a group of tasks, and its cost relative to the rival's."""

    dimension: str
    name: str
    share: float  # of all tasks
    cost: float
    rival_cost: float
    gap: Interval  # relative
    episodes: int  # with tasks of the group
    contribution: float  # of the group to the difference in mean cost over all tasks
    local: float
    steps: float
    delay_s: float


def groups(run: Run) -> list[Group]:
    """The groups of tasks by kind of request, content, class of phone and load; none where there is no rival."""
    if run.rival is None:
        return []
    scenario = run.scenario
    dimensions = {
        "kind of request": ("by_request", [kind.name for kind in scenario.requests]),
        "content": ("by_content", [content.name for content in scenario.contents]),
        "class of phone": ("by_ue_class", [ue.name for ue in scenario.ues]),
        LOAD: ("by_load", LOAD_NAMES),
    }
    ours, theirs = run.digests[run.subject], run.digests[run.rival]
    bootstrap = Bootstrap(ours.episodes)
    rows = []
    for dimension, (field, names) in dimensions.items():
        ours_by, theirs_by = getattr(ours, field), getattr(theirs, field)
        total = ours_by[:, :, METRICS.index("tasks")].sum()
        for number, name in enumerate(names):
            mine, other = ours_by[:, number], theirs_by[:, number]
            share = mine[:, METRICS.index("tasks")].sum() / total
            if share == 0.0 or len(names) == 1:
                continue
            cost, rival_cost = _mean(mine, "cost"), _mean(other, "cost")
            gap = bootstrap.difference(mine, other, relative=True)
            episodes = int(np.count_nonzero(mine[:, METRICS.index("tasks")]))
            metrics = (_mean(mine, metric) for metric in ("local", "steps", "delay_s"))
            contribution = share * (cost - rival_cost)
            rows.append(Group(dimension, name, share, cost, rival_cost, gap, episodes, contribution, *metrics))
    return rows


def _mean(sums: np.ndarray, metric: str) -> float:
    denominator = sums[:, METRICS.index(PER.get(metric, "tasks"))].sum()
    return float(sums[:, METRICS.index(metric)].sum() / denominator) if denominator else 0.0
