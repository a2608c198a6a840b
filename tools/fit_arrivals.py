"""Fit bursty arrivals to a request trace: the numbers of presets/campus-gentd26.yaml.

    python tools/fit_arrivals.py ../shared/data/gentd26/requests.csv --task-rate 3.2

The model is a two-state Markov-modulated Poisson process (Heffes & Lucantoni 1986). What is done:
1. The daily cycle and the days' levels are removed: time runs at the pace of the expected requests, (this
   day's level) x (this hour of the day's share). What stays is what comes within hours; over longer times the
   load is the scenario's own choice. Left in, the cycle would drown it: an episode would be a day or a night.
2. Time is scaled until tasks (images) come at the stated rate, as a replay of the trace does it.
3. Counts of requests in windows of 1/2 to 300 s give the index of dispersion (variance over mean) and the
   third central moment, both of which the model has in closed form. The first gives how much the rate varies
   and for how long, the second how rare bursts are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import curve_fit

from edgebrush.scenario.trace import Trace, read_trace

WINDOWS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
PHASES = 10
HOUR_S, DAY_H = 3600.0, 24


class Bursts(NamedTuple):
    """Arrival rate against its mean, 1, in the two states, and the mean stay in each."""

    calm: float
    burst: float
    calm_s: float
    burst_s: float


def operational_time(time_s: np.ndarray) -> np.ndarray:
    """Times (R,) on a clock that runs at the pace of the requests expected from the day and the hour."""
    hour = (time_s // HOUR_S).astype(int)
    hours = np.arange(hour[-1] + 1)
    by_hour_of_day = np.bincount(hour % DAY_H, minlength=DAY_H)
    by_day = np.bincount(hour // DAY_H)
    expected = by_hour_of_day[hours % DAY_H].astype(float)
    expected *= (by_day / np.bincount(hours // DAY_H, expected))[hours // DAY_H]
    edges = np.concatenate([[0.0], np.cumsum(expected)])
    return np.interp(time_s / HOUR_S, np.arange(len(edges)), edges)


def scaled(trace: Trace, task_rate_hz: float) -> np.ndarray:
    """The requests' times (R,) without the daily cycle, so that images come at ``task_rate_hz``."""
    time = operational_time(trace.time_s)
    return time * (trace.images.sum() / task_rate_hz / time[-1])


def count_moments(time_s: np.ndarray, windows_s: Sequence[float] = WINDOWS_S) -> tuple[np.ndarray, np.ndarray]:
    """Index of dispersion and third central moment of the counts in windows, each (len(windows_s),).

    The mean over ``PHASES`` divisions into windows, so that it hardly matters where the first begins.
    """
    dispersion, third = [], []
    for window in windows_s:
        edges = np.arange(0.0, time_s[-1], window / PHASES)
        upto = np.searchsorted(time_s, edges)
        counts = upto[PHASES:] - upto[:-PHASES]
        dispersion.append(counts.var() / counts.mean())
        third.append(np.mean((counts - counts.mean()) ** 3.0))
    return np.array(dispersion), np.array(third)


def model_dispersion(window_s, rate_variance, decay_hz, rate_hz):
    """Index of dispersion ``1 + 2 V r/s (1 - (1 - exp(-s t)) / (s t))``, V the relative rate's variance."""
    st = decay_hz * np.asarray(window_s, float)
    return 1.0 + 2.0 * rate_variance * rate_hz / decay_hz * (1.0 + np.expm1(-st) / st)


def fit_bursts(time_s: np.ndarray, windows_s: Sequence[float] = WINDOWS_S) -> Bursts:
    """The two-state process whose count moments come closest, in relative terms, to the requests'.

    A two-state rate x about its mean has ``E[x(t1) x(t2) x(t3)] = K exp(-s (t3 - t1))``, K its third moment,
    so its integral over a window T has the third moment ``6 K int_0^T (T - u) u exp(-s u) du``.
    """
    windows = np.array(windows_s, float)
    rate_hz = len(time_s) / time_s[-1]
    dispersion, third = count_moments(time_s, windows)

    def log_dispersion(window, log_variance, log_decay):
        return np.log(model_dispersion(window, np.exp(log_variance), np.exp(log_decay), rate_hz))

    (log_variance, log_decay), _ = curve_fit(log_dispersion, windows, np.log(dispersion), p0=np.log([0.3, 0.05]))
    variance, decay_hz = np.exp([log_variance, log_decay])

    st = decay_hz * windows
    integral = (st * (1 + np.exp(-st)) + 2 * np.expm1(-st)) / decay_hz**3
    per_third = 6.0 * rate_hz**3 * integral
    mean = rate_hz * windows
    of_poisson = mean * (3.0 * model_dispersion(windows, variance, decay_hz, rate_hz) - 2.0)
    weight = 1.0 / third  # relative errors
    rate_third = np.sum(weight**2 * per_third * (third - of_poisson)) / np.sum((weight * per_third) ** 2)

    # (1 - 2p) / sqrt(p (1 - p)) is the skewness of a state that is on with probability p.
    skewness = rate_third / variance**1.5
    share = 0.5 * (1.0 - skewness / np.sqrt(4.0 + skewness**2))
    calm = max(0.0, 1.0 - np.sqrt(variance * share / (1.0 - share)))
    burst = (1.0 - (1.0 - share) * calm) / share
    return Bursts(calm, burst, calm_s=1.0 / (decay_hz * share), burst_s=1.0 / (decay_hz * (1.0 - share)))


def simulate(bursts: Bursts, rate_hz: float, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """Sorted request times of the fitted process."""
    cycles = int(np.ceil(1.2 * duration_s / (bursts.calm_s + bursts.burst_s))) + 50
    stays = rng.exponential([bursts.calm_s, bursts.burst_s], (cycles, 2)).ravel()
    rates = np.tile([bursts.calm, bursts.burst], cycles) * rate_hz
    starts = np.cumsum(stays) - stays
    counts = rng.poisson(rates * stays)
    times = np.repeat(starts, counts) + np.repeat(stays, counts) * rng.random(counts.sum())
    return np.sort(times[times < duration_s])


def image_shares(trace: Trace) -> dict[int, float]:
    """How often a request asks for how many images, to four digits."""
    images, counts = np.unique(trace.images, return_counts=True)
    return {int(image): round(float(count) / len(trace.images), 4) for image, count in zip(images, counts, strict=True)}


def main(file: Path, task_rate_hz: float) -> None:
    trace = read_trace(file)
    time_s = scaled(trace, task_rate_hz)
    bursts = fit_bursts(time_s)
    rate_hz = len(time_s) / time_s[-1]
    shares = image_shares(trace)

    print(f"{len(trace.time_s):,} requests of {trace.images.mean():.3f} images; {len(set(trace.user)):,} users")
    print(f"at {task_rate_hz:g} tasks/s: {rate_hz:.4g} requests/s over {time_s[-1]:,.0f} s\n")
    print(", ".join(f"{name}: {value:.3g}" for name, value in bursts._asdict().items()))
    print(f"images_per_request: {shares}  (sum {sum(shares.values()):.4f})\n")

    measured, measured_third = count_moments(time_s)
    variance = (bursts.burst - 1.0) * (1.0 - bursts.calm)
    model = model_dispersion(WINDOWS_S, variance, 1.0 / bursts.calm_s + 1.0 / bursts.burst_s, rate_hz)
    simulated, third = count_moments(simulate(bursts, rate_hz, 200_000.0, np.random.default_rng(1)))
    mean = rate_hz * np.array(WINDOWS_S)
    print("window s   dispersion: trace  simulated  closed form   skewness: trace  simulated")
    for row in zip(
        WINDOWS_S,
        measured,
        simulated,
        model,
        measured_third / (measured * mean) ** 1.5,
        third / (simulated * mean) ** 1.5,
        strict=True,
    ):
        print("{:8g} {:19.2f} {:10.2f} {:12.2f} {:17.2f} {:10.2f}".format(*row))
    error = np.sqrt(np.mean(np.log(simulated / measured) ** 2))
    print(f"root mean square error of the simulated log dispersion: {error:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fit bursty arrivals to a request trace in the GenTD26 columns.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--task-rate", type=float, default=3.2, help="images per second, over all UEs")
    options = parser.parse_args()
    main(options.file, options.task_rate)
