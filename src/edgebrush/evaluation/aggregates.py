"""Aggregates over training seeds: interquartile means, probability of improvement, performance profiles.

The methods of Agarwal et al. 2021 ("Deep RL at the edge of the statistical precipice", library rliable), which Gorsane
et al. 2022 recommend for cooperative multi-agent learning. ``costs (S, P)`` are the mean costs of S training seeds at
each of P points (scenarios); lower is better. The bootstrap resamples training seeds, separately at each point
(stratified), on fixed episodes, so its intervals show the variance of training. The intervals of ``statistics`` show
the variance of episodes. A rule is not trained: it is one run, ``(1, P)``, without variance here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from .statistics import RESAMPLES, Interval, interval


def resample(costs: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """``(resamples, S, P)``: S seeds drawn with replacement, separately at each point."""
    drawn = np.random.default_rng(seed).integers(len(costs), size=(resamples, *costs.shape))
    return np.take_along_axis(costs[None], drawn, axis=1)


def mean(costs: np.ndarray) -> np.ndarray:
    """Mean over seeds and points of ``(..., S, P)``."""
    return costs.mean((-2, -1))


def interquartile_mean(costs: np.ndarray) -> np.ndarray:
    """Mean of the middle half of all runs of ``(..., S, P)``, which is robust to a lucky training and to a collapse."""
    return np.asarray(stats.trim_mean(costs.reshape(*costs.shape[:-2], -1), 0.25, axis=-1))


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Probability that a training of ours is cheaper than one of theirs, averaged over points; a tie counts half.

    ``(..., S, P)`` and ``(..., S', P)``: the Mann-Whitney U statistic divided by the number of pairs, at each point.
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
