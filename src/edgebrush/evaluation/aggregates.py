"""How an algorithm does over its trainings: few seeds on each of several points (scenarios), honestly summed up.

The methods of Agarwal et al. 2021 ("Deep RL at the edge of the statistical precipice"; rliable, archived since, is
their code) that Gorsane et al. 2022 ask of cooperative multi-agent learning. ``costs (S, P)`` are the mean costs of
S training seeds on each of P points, lower is better. Training seeds are drawn again, each point's apart
(stratified), while the held-out episodes stay: the intervals speak of the luck of training. Those of ``statistics``
speak of the luck of the episodes. A rule is not trained: it is one run, ``(1, P)``, and adds no width here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from .statistics import RESAMPLES, Interval, interval


def resample(costs: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """``(resamples, S, P)``: at each point as many seeds as there are, drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(len(costs), size=(resamples, *costs.shape))
    return np.take_along_axis(costs[None], drawn, axis=1)


def mean(costs: np.ndarray) -> np.ndarray:
    """Mean over seeds and points of ``(..., S, P)``."""
    return costs.mean((-2, -1))


def interquartile_mean(costs: np.ndarray) -> np.ndarray:
    """Mean of the middle half of all runs of ``(..., S, P)``: neither one lucky training nor one collapse moves it."""
    return np.asarray(stats.trim_mean(costs.reshape(*costs.shape[:-2], -1), 0.25, axis=-1))


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """How likely a training of ours is cheaper than one of theirs, averaged over points; a tie counts half.

    ``(..., S, P)`` and ``(..., S', P)``: Mann and Whitney's statistic over the number of pairs, at each point.
    """
    mine, other = ours[..., :, None, :], theirs[..., None, :, :]
    return ((mine < other) + 0.5 * (mine == other)).mean((-3, -2, -1))


def performance_profile(costs: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The share of runs that cost at most each level, ``(..., L)`` (run-score distribution)."""
    return (costs[..., None] <= levels).mean((-3, -2))


def aggregate(statistic: Callable[..., np.ndarray], *costs: np.ndarray, resamples: int = RESAMPLES) -> Interval:
    """A statistic of one or more algorithms' runs with its 95% interval."""
    resampled = statistic(*(resample(each, resamples, seed) for seed, each in enumerate(costs)))
    return interval(float(statistic(*costs)), resampled)


def profile_bands(costs: np.ndarray, levels: np.ndarray, resamples: int = RESAMPLES) -> list[Interval]:
    """A performance profile with the 95% interval at each level."""
    resampled = performance_profile(resample(costs, resamples), levels)
    shares = performance_profile(costs, levels)
    return [interval(float(share), column) for share, column in zip(shares, resampled.T, strict=True)]
