"""Metrics of policies with 95% intervals, from the tasks of common episodes.

A policy's tasks are first reduced to a ``Digest`` of sums and counts, so that few tasks are in memory at a time.
Digests of successive episodes can be joined, digests of several training seeds on the same episodes added. Means are
ratios of sums (cost per task, not per episode). Their intervals are percentile bootstraps over episodes (Efron and
Tibshirani 1993): each resample draws the same whole episodes for every policy, so the difference between two policies
has a narrower interval than the cost of either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from edgebrush.scenario.schema import Scenario

RESAMPLES = 2000
CONFIDENCE = 0.95
MIN_EPISODES = 6  # for significance; in a sign test, 5 that all agree are still chance in 6% of cases
LOAD_WINDOW_S = 10.0  # the load at a time is the number of arrivals in the window before it
LOAD_BINS = 5  # with equal numbers of tasks, from low to high load
DELAY_EDGES_S = np.geomspace(1e-3, 1e4, 4001)  # bins of 0.4%; percentiles are interpolated within a bin

# The sums in a digest. Means are per task, or per what ``PER`` names.
METRICS = (
    "tasks",
    "completed",
    "cost",
    "delay_cost",
    "energy_cost",
    "quality_cost",
    "penalty_cost",
    "delay_s",
    "steps",
    "energy_ue_j",
    "energy_bs_j",
    "quality",
    "utility",
    "cost_with_bs_energy",
    "local",
    "refused",
    "missed",
    "dropped",
    "lost",
)
PER = {"delay_s": "completed", "steps": "completed"}
COST_TERMS = ("delay_cost", "energy_cost", "quality_cost", "penalty_cost")


class Interval(NamedTuple):
    """A mean and its 95% confidence interval."""

    mean: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Digest:
    """Sums and counts of a policy's tasks in ``E`` episodes, by groups of tasks.

    The groups are the scenario's R request kinds, C contents and U classes of UEs, and the bins of load.
    """

    by_request: np.ndarray  # (E, R, |METRICS|)
    by_content: np.ndarray  # (E, C, |METRICS|)
    by_ue_class: np.ndarray  # (E, U, |METRICS|)
    by_load: np.ndarray  # (E, LOAD_BINS, |METRICS|)
    choices: np.ndarray  # (R, C, 1+M, K, P) counts of tasks by kind, content, place, steps, class
    delays: np.ndarray  # (R, len(DELAY_EDGES_S) - 1) counts of completed tasks
    by_ue: np.ndarray  # (N, 2) cost and tasks of each UE

    @property
    def episodes(self) -> int:
        return len(self.by_request)

    def total(self, metric: str) -> np.ndarray:
        """The sum of a metric in each episode, ``(E,)``."""
        return self.by_request[:, :, METRICS.index(metric)].sum(1)

    def __add__(self, other: Digest) -> Digest:
        """Pool two training seeds on the same episodes, so that every mean is the mean over seeds."""
        return Digest(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def join(parts: Sequence[Digest]) -> Digest:
    """Concatenate one policy's digests of successive episodes."""
    per_episode = ("by_request", "by_content", "by_ue_class", "by_load")
    return Digest(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in per_episode},
        **{name: sum(getattr(part, name) for part in parts) for name in ("choices", "delays", "by_ue")},
    )


def recent_arrivals(outcomes: np.ndarray) -> np.ndarray:
    """The number of arrivals in the ``LOAD_WINDOW_S`` before each task, in its episode, ``(rows,)``."""
    gap = outcomes["arrival_s"].max(initial=0.0) + 2.0 * LOAD_WINDOW_S  # separates the episodes on one time axis
    time = outcomes["episode"] * gap + outcomes["arrival_s"]
    ordered = np.sort(time)
    return np.searchsorted(ordered, time) - np.searchsorted(ordered, time - LOAD_WINDOW_S)


def load_edges(outcomes: np.ndarray) -> np.ndarray:
    """Quantiles ``(LOAD_BINS - 1,)`` of the recent arrivals, between bins with equal numbers of tasks."""
    return np.quantile(recent_arrivals(outcomes), np.arange(1, LOAD_BINS) / LOAD_BINS)


def digest(scenario: Scenario, outcomes: np.ndarray, episodes: int, edges: np.ndarray) -> Digest:
    """Reduce the tasks (``sim.state.OUTCOME`` rows) of several episodes to a digest; ``edges``: see ``load_edges``."""
    values = _metric_values(scenario, outcomes)
    classes = np.repeat(np.arange(len(scenario.ues)), [ue.count for ue in scenario.ues])
    grid = np.array(scenario.decision.step_grid)
    kinds, contents = len(scenario.requests), len(scenario.contents)
    shape = (kinds, contents, 1 + scenario.bs_count, len(grid), scenario.decision.classes)
    decided = outcomes["steps"] > 0  # a task that was lost before its decision has no choice
    rows = outcomes[decided]
    index = (
        rows["request"],
        rows["content"],
        rows["place"],
        np.searchsorted(grid, rows["steps"]),
        rows["service_class"],
    )
    done = outcomes[(outcomes["lost"] == 0) & (outcomes["dropped"] == 0)]
    delay_bin = np.searchsorted(DELAY_EDGES_S, done["delay_s"]).clip(1, len(DELAY_EDGES_S) - 1) - 1

    def by(group: np.ndarray, groups: int) -> np.ndarray:
        cell = outcomes["episode"] * groups + group
        sums = [np.bincount(cell, value, episodes * groups) for value in values]
        return np.stack(sums, -1).reshape(episodes, groups, len(METRICS))

    return Digest(
        by_request=by(outcomes["request"], kinds),
        by_content=by(outcomes["content"], contents),
        by_ue_class=by(classes[outcomes["ue"]], len(scenario.ues)),
        by_load=by(np.searchsorted(edges, recent_arrivals(outcomes)), LOAD_BINS),
        choices=_count(index, shape),
        delays=_count((done["request"], delay_bin), (kinds, len(DELAY_EDGES_S) - 1)),
        by_ue=np.stack([np.bincount(outcomes["ue"], w, scenario.ue_count) for w in (outcomes["cost"], None)], -1),
    )


def _count(index: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    return np.bincount(np.ravel_multi_index(index, shape), minlength=int(np.prod(shape))).reshape(shape)


def _metric_values(scenario: Scenario, outcomes: np.ndarray) -> list[np.ndarray]:
    """The value of each of ``METRICS`` for each task."""
    quality_weight = np.array([kind.quality_weight for kind in scenario.requests])[outcomes["request"]]
    completed = ((outcomes["lost"] == 0) & (outcomes["dropped"] == 0)).astype(float)
    derived = {
        "tasks": np.ones(len(outcomes)),
        "completed": completed,
        "delay_s": outcomes["delay_s"] * completed,
        "steps": outcomes["steps"] * completed,
        "local": (outcomes["place"] == 0) * completed,
        "utility": quality_weight * outcomes["quality"] - outcomes["delay_cost"] - outcomes["energy_cost"],
        "cost_with_bs_energy": _cost_with_bs_energy(scenario, outcomes),
    }
    return [derived[name] if name in derived else outcomes[name].astype(float) for name in METRICS]


def _cost_with_bs_energy(scenario: Scenario, outcomes: np.ndarray) -> np.ndarray:
    """The cost of the same decisions if the BSs' energy counted in full (omega = 1)."""
    omega, ref = scenario.cost.bs_energy_weight, scenario.cost.energy_ref_j
    counted = outcomes["energy_ue_j"] + omega * outcomes["energy_bs_j"]
    nominal = np.array([kind.energy_weight for kind in scenario.requests])[outcomes["request"]] / ref
    # The weight that was charged, including battery care; the nominal one where no energy was used.
    weight = np.where(counted > 0.0, outcomes["energy_cost"] / np.maximum(counted, 1e-300), nominal)
    return outcomes["cost"] + weight * (1.0 - omega) * outcomes["energy_bs_j"]


class Bootstrap:
    """Resamples of ``E`` episodes, the same ones for every statistic: how often each episode was drawn."""

    def __init__(self, episodes: int, resamples: int = RESAMPLES, seed: int = 0):
        random = np.random.default_rng(seed)
        self.weights = random.multinomial(episodes, np.full(episodes, 1.0 / episodes), resamples).astype(float)

    def ratios(self, numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, np.ndarray]:
        """Ratio of the sums of two ``(E,)`` arrays, 0 where the denominator is 0, and in each resample ``(B,)``.

        A resample without any task of a group says nothing about it: its ratio is NaN, which ``interval`` leaves out.
        """
        above, below = self.weights @ numerator, self.weights @ denominator
        resampled = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
        total = denominator.sum()
        return float(numerator.sum() / total) if total > 0 else 0.0, resampled

    def ratio(self, numerator: np.ndarray, denominator: np.ndarray) -> Interval:
        """Ratio of sums with its interval."""
        return interval(*self.ratios(numerator, denominator))

    def metric(self, sums: np.ndarray, metric: str) -> Interval:
        """Mean of a metric from sums ``(E, |METRICS|)``."""
        return self.ratio(*_fraction(sums, metric))

    def difference(self, ours: np.ndarray, theirs: np.ndarray, metric: str = "cost", *, relative=False) -> Interval:
        """Our mean of a metric minus theirs, from sums ``(E, |METRICS|)`` of the same episodes.

        ``relative`` divides the difference by their mean.
        """
        our_mean, ours_resampled = self.ratios(*_fraction(ours, metric))
        their_mean, theirs_resampled = self.ratios(*_fraction(theirs, metric))
        if not relative:
            return interval(our_mean - their_mean, ours_resampled - theirs_resampled)
        if their_mean == 0.0:
            return Interval(0.0, 0.0, 0.0)
        safe = np.where(theirs_resampled == 0.0, their_mean, theirs_resampled)
        return interval(our_mean / their_mean - 1.0, ours_resampled / safe - 1.0)


def mean_of(policy: Digest, metric: str) -> float:
    """A metric's mean over all tasks of all episodes."""
    above, below = _fraction(policy.by_request.sum((0, 1))[None], metric)
    return float(above[0] / max(below[0], 1.0))


def _fraction(sums: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and denominator of a metric's mean, from sums ``(E, |METRICS|)``."""
    return sums[:, METRICS.index(metric)], sums[:, METRICS.index(PER.get(metric, "tasks"))]


def interval(mean: float, resampled: np.ndarray) -> Interval:
    """A mean with the percentile interval of its resamples ``(B,)``, without those that are NaN."""
    tail = (1.0 - CONFIDENCE) / 2.0
    known = resampled[~np.isnan(resampled)]
    if not len(known):
        return Interval(mean, mean, mean)
    low, high = np.quantile(known, (tail, 1.0 - tail))
    return Interval(mean, float(low), float(high))


def verdict(gap: Mapping[str, float], episodes: int) -> str:
    """``better`` or ``worse`` where a difference in cost, an interval's dictionary, is significant; else ``level``."""
    if episodes < MIN_EPISODES:
        return "level"
    return "better" if gap["ci_high"] < 0 else "worse" if gap["ci_low"] > 0 else "level"


def percentile_s(delays: np.ndarray, share: float) -> float:
    """The delay quantile for a share of the tasks, from counts over the bins of ``DELAY_EDGES_S``."""
    below = np.concatenate([[0.0], np.cumsum(delays)])
    if below[-1] == 0:
        return 0.0
    return float(np.interp(share * below[-1], below, DELAY_EDGES_S))


def jain(values: np.ndarray) -> float:
    """Jain's fairness index (Jain, Chiu and Hawe 1984): 1 if all values are equal, 1/n if only one is not 0."""
    values = np.asarray(values, float)
    squares = len(values) * (values**2).sum()
    return float(values.sum() ** 2 / squares) if squares > 0 else 1.0


def summary(policy: Digest, bootstrap: Bootstrap) -> dict:
    """All metrics of one policy, in the layout of ``results.json``."""
    sums = policy.by_request.sum(1)
    metrics: dict = {name: bootstrap.metric(sums, name)._asdict() for name in METRICS[2:]}
    delays = policy.delays.sum(0)
    metrics["delay_s"] |= {f"p{round(100 * share)}": percentile_s(delays, share) for share in (0.5, 0.95, 0.99)}
    cost, tasks = policy.by_ue.T
    metrics["fairness"] = jain((cost / np.maximum(tasks, 1))[tasks > 0])
    return metrics
