"""Fit bursty arrivals to a request trace: the numbers of presets/campus-gentd26.yaml.

    python tools/fit_arrivals.py ../shared/data/gentd26/requests.csv --task-rate 3.2

The model is a two-state Markov-modulated Poisson process (Heffes & Lucantoni 1986). What is done:
1. The daily cycle and the days' levels are removed: time runs at the pace of the expected requests, (this
   day's level) x (this hour of the day's share). What stays is what comes within hours; over longer times the
   load is the scenario's own choice. Left in, the cycle would drown it: an episode would be a day or a night.
2. Time is scaled until tasks (images) come at the stated rate, as a replay of the trace does it.
3. Counts of requests in windows give the process, see ``edgebrush.fitting.bursts``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from edgebrush.fitting.bursts import WINDOWS_S, count_moments, fit_bursts, model_dispersion, simulate
from edgebrush.scenario.trace import Trace, read_trace

HOUR_S, DAY_H = 3600.0, 24


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


def image_shares(trace: Trace) -> dict[int, float]:
    """How often a request asks for how many images, to four digits."""
    images, counts = np.unique(trace.images, return_counts=True)
    return {int(image): round(float(count) / len(trace.images), 4) for image, count in zip(images, counts, strict=True)}


def main(file: Path, task_rate_hz: float) -> None:
    trace = read_trace(file)
    time_s = scaled(trace, task_rate_hz)
    bursts = fit_bursts([time_s], time_s[-1])
    rate_hz = len(time_s) / time_s[-1]
    shares = image_shares(trace)

    print(f"{len(trace.time_s):,} requests of {trace.images.mean():.3f} images; {len(set(trace.user)):,} users")
    print(f"at {task_rate_hz:g} tasks/s: {rate_hz:.4g} requests/s over {time_s[-1]:,.0f} s\n")
    print(", ".join(f"{name}: {value:.3g}" for name, value in bursts._asdict().items()))
    print(f"images_per_request: {shares}  (sum {sum(shares.values()):.4f})\n")

    measured, measured_third = count_moments([time_s], time_s[-1])
    variance = (bursts.burst - 1.0) * (1.0 - bursts.calm)
    model = model_dispersion(WINDOWS_S, variance, 1.0 / bursts.calm_s + 1.0 / bursts.burst_s, rate_hz)
    simulated_s = simulate(bursts, rate_hz, 200_000.0, np.random.default_rng(1))
    simulated, third = count_moments([simulated_s], simulated_s[-1])
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
