"""Bursty arrivals: the two-state process whose counts in windows are closest to those of requests.

The model is a two-state Markov-modulated Poisson process (Heffes & Lucantoni 1986). Counts of requests in windows of
1/2 to 300 s give the index of dispersion (variance over mean) and the third central moment, both of which the model has
in closed form. The first gives how much the rate varies and for how long, the second how rare bursts are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import curve_fit

WINDOWS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
PHASES = 10
MAX_EDGES = 100_000  # of windows; where a span has more, there are enough windows with fewer phases


class Bursts(NamedTuple):
    """Arrival rate against its mean, 1, in the two states, and the mean stay in each."""

    calm: float
    burst: float
    calm_s: float
    burst_s: float


def count_moments(
    sources: Sequence[np.ndarray], span_s: float, windows_s: Sequence[float] = WINDOWS_S
) -> tuple[np.ndarray, np.ndarray]:
    """Index of dispersion and third central moment of each source's counts in windows, each (len(windows_s),).

    ``sources`` hold request times from 0 to ``span_s``. The mean over up to ``PHASES`` divisions into windows, so that
    it hardly matters where the first begins; over the sources, the mean of their moments.
    """
    dispersion, third = [], []
    for window in windows_s:
        phases = min(PHASES, max(1, int(MAX_EDGES * window / span_s)))
        edges = np.arange(0.0, span_s, window / phases)
        upto = np.array([np.searchsorted(source, edges) for source in sources])
        counts = upto[:, phases:] - upto[:, :-phases]
        centred = counts - counts.mean(axis=1, keepdims=True)
        dispersion.append(np.mean(centred**2) / counts.mean())
        third.append(np.mean(centred**3))
    return np.array(dispersion), np.array(third)


def model_dispersion(window_s, rate_variance, decay_hz, rate_hz):
    """Index of dispersion ``1 + 2 V r/s (1 - (1 - exp(-s t)) / (s t))``, V the relative rate's variance."""
    st = decay_hz * np.asarray(window_s, float)
    return 1.0 + 2.0 * rate_variance * rate_hz / decay_hz * (1.0 + np.expm1(-st) / st)


def fit_bursts(sources: Sequence[np.ndarray], span_s: float, windows_s: Sequence[float] = WINDOWS_S) -> Bursts:
    """The two-state process of each source whose count moments come closest, in relative terms, to the requests'.

    A two-state rate x about its mean has ``E[x(t1) x(t2) x(t3)] = K exp(-s (t3 - t1))``, K its third moment, so its
    integral over a window T has the third moment ``6 K int_0^T (T - u) u exp(-s u) du``. Raises ``ValueError`` where
    the counts have no such process.
    """
    windows = np.array(windows_s, float)
    rate_hz = sum(map(len, sources)) / len(sources) / span_s
    dispersion, third = count_moments(sources, span_s, windows_s)

    def log_dispersion(window, log_variance, log_decay):
        return np.log(model_dispersion(window, np.exp(log_variance), np.exp(log_decay), rate_hz))

    try:
        (log_variance, log_decay), _ = curve_fit(log_dispersion, windows, np.log(dispersion), p0=np.log([0.3, 0.05]))
    except RuntimeError:
        raise ValueError("the counts of requests do not vary as those of two states") from None
    variance, decay_hz = np.exp([log_variance, log_decay])

    st = decay_hz * windows
    integral = (st * (1 + np.exp(-st)) + 2 * np.expm1(-st)) / decay_hz**3
    per_third = 6.0 * rate_hz**3 * integral
    mean = rate_hz * windows
    of_poisson = mean * (3.0 * model_dispersion(windows, variance, decay_hz, rate_hz) - 2.0)
    weight = 1.0 / np.maximum(third, of_poisson)  # relative errors
    rate_third = np.sum(weight**2 * per_third * (third - of_poisson)) / np.sum((weight * per_third) ** 2)

    # (1 - 2p) / sqrt(p (1 - p)) is the skewness of a state that is on with probability p.
    skewness = rate_third / variance**1.5
    share = 0.5 * (1.0 - skewness / np.sqrt(4.0 + skewness**2))
    calm = max(0.0, 1.0 - np.sqrt(variance * share / (1.0 - share)))
    burst = (1.0 - (1.0 - share) * calm) / share
    bursts = Bursts(*map(float, (calm, burst, 1.0 / (decay_hz * share), 1.0 / (decay_hz * (1.0 - share)))))
    if not np.isfinite(bursts).all():
        raise ValueError("the counts of requests do not vary as those of two states")
    return bursts


def simulate(bursts: Bursts, rate_hz: float, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """Sorted request times of the fitted process."""
    cycles = int(np.ceil(1.2 * duration_s / (bursts.calm_s + bursts.burst_s))) + 50
    stays = rng.exponential([bursts.calm_s, bursts.burst_s], (cycles, 2)).ravel()
    rates = np.tile([bursts.calm, bursts.burst], cycles) * rate_hz
    starts = np.cumsum(stays) - stays
    counts = rng.poisson(rates * stays)
    times = np.repeat(starts, counts) + np.repeat(stays, counts) * rng.random(counts.sum())
    return np.sort(times[times < duration_s])
