"""What users asked for: arrivals, who asks how often, kinds of requests, images per request."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from edgebrush.scenario.schema import BurstyArrivals, PoissonArrivals, Scenario, TraceArrivals

from .bursts import WINDOWS_S, Bursts, count_moments, fit_bursts, simulate
from .estimate import Estimate, Z, left, measured, rounded, share_interval, shares_of, too_few
from .records import Records

BURST_REQUESTS = 300  # fewer do not show whether arrivals are bursty
WINDOWS_PER_SPAN = 20  # a window is used if the span holds so many
BURSTY_Z, POISSON_Z = 5.0, 3.0  # deviations of the dispersion above which, and below which, it is one or the other
REPEATS = 20  # simulated fits for the intervals of the bursts


def fit_demand(scenario: Scenario, records: Records, needed: int) -> list[Estimate]:
    """Estimates of all fields that the requests alone decide, from at least ``needed`` requests each."""
    return [
        *fit_arrivals(scenario, records, needed),
        *fit_rate_factors(scenario, records, needed),
        *fit_kinds(scenario, records, needed),
        *fit_images(scenario, records, needed),
    ]


def factors_of(scenario: Scenario) -> list[float]:
    """The rate factor of each UE."""
    return [ue.rate_factor for ue in scenario.ues for _ in range(ue.count)]


def sources_of(records: Records) -> list[np.ndarray]:
    """The request times of each UE, from 0."""
    return [np.array([each.at_s - records.start_s for each in records.requests if each.ue == ue]) for ue in records.ues]


def fit_arrivals(scenario: Scenario, records: Records, needed: int) -> list[Estimate]:
    """The rate, and Poisson or bursty, which is decided by how much the counts in windows vary."""
    arrivals, count = scenario.arrivals, len(records.requests)
    if count < needed:
        return [too_few(("arrivals", "rate_hz"), arrivals.rate_hz, count, needed)]
    users = sum(factors_of(scenario)[ue] for ue in records.ues)
    rate_hz = count / records.span_s / users
    windows = [window for window in WINDOWS_S if window * WINDOWS_PER_SPAN <= records.span_s]
    dispersion = max(count_moments([_pooled(records)], records.span_s, windows)[0], default=1.0) if windows else 1.0
    reach = Z * math.sqrt(max(dispersion, 1.0) / count)
    interval = rate_hz * max(1.0 - reach, 0.0), rate_hz * (1.0 + reach)
    if isinstance(arrivals, TraceArrivals):  # counts tasks
        images = len(records.tasks) / count
        path, between = ("arrivals", "rate_hz"), (interval[0] * images, interval[1] * images)
        return [measured(path, arrivals.rate_hz, rounded(rate_hz * images), count, between)]
    bursts = _bursts(scenario, records, windows)
    if isinstance(bursts, str):
        return _same_kind(arrivals, rate_hz, count, interval, bursts)
    if bursts is None:
        return _poisson(arrivals, rate_hz, count, interval)
    return _bursty(arrivals, rate_hz, count, interval, *bursts, records)


def _pooled(records: Records) -> np.ndarray:
    return np.sort(np.concatenate(sources_of(records)))


def _bursts(scenario: Scenario, records: Records, windows: Sequence[float]) -> tuple[Bursts, bool] | str | None:
    """The bursts and whether UEs share them; None for Poisson arrivals; a reason where the kind is left as it was."""
    count, sources = len(records.requests), sources_of(records)
    if count < BURST_REQUESTS or not windows:
        return f"kind left: {count} requests of at least {BURST_REQUESTS}"
    together = count_moments([_pooled(records)], records.span_s, windows)[0] - 1.0
    alone = count_moments(sources, records.span_s, windows)[0] - 1.0
    windows_in_span = records.span_s / np.array(windows)
    deviations = np.concatenate(
        [together / np.sqrt(2.0 / windows_in_span), alone / np.sqrt(2.0 / (windows_in_span * len(sources)))]
    )
    if deviations.max() < POISSON_Z:
        return None
    if deviations.max() < BURSTY_Z:
        return "kind left: the counts do not decide between poisson and bursty"
    before = scenario.arrivals
    shared = before.shared if isinstance(before, BurstyArrivals) else True
    if len(sources) > 1:  # the variance of a sum: U times as dispersed if all vary together
        shared = float(np.mean(together)) > math.sqrt(len(sources)) * float(np.mean(alone))
    try:
        return fit_bursts([_pooled(records)] if shared else sources, records.span_s, windows), shared
    except ValueError as error:
        return f"kind left: {error}"


def _same_kind(
    arrivals: PoissonArrivals | BurstyArrivals, rate_hz: float, count: int, interval: tuple[float, float], note: str
) -> list[Estimate]:
    """The kind as it was, at the recorded rate."""
    mean = 1.0
    if isinstance(arrivals, BurstyArrivals):
        mean = _relative_to_mean(arrivals)["rate_hz"] / arrivals.rate_hz
    between = interval[0] / mean, interval[1] / mean
    return [measured(("arrivals", "rate_hz"), arrivals.rate_hz, rounded(rate_hz / mean), count, between, note)]


def _poisson(
    arrivals: PoissonArrivals | BurstyArrivals, rate_hz: float, count: int, interval: tuple[float, float]
) -> list[Estimate]:
    if isinstance(arrivals, PoissonArrivals):
        return [measured(("arrivals", "rate_hz"), arrivals.rate_hz, rounded(rate_hz), count, interval)]
    after = {"kind": "poisson", "rate_hz": rounded(rate_hz)}
    return [Estimate(("arrivals",), arrivals.model_dump(), after, count, interval, "interval of rate_hz")]


def _bursty(
    arrivals: PoissonArrivals | BurstyArrivals,
    rate_hz: float,
    count: int,
    interval: tuple[float, float],
    bursts: Bursts,
    shared: bool,
    records: Records,
) -> list[Estimate]:
    """Bursty arrivals, each parameter with an interval from fits to simulated requests."""
    values = {name: rounded(value, 3) for name, value in bursts._asdict().items()}
    if isinstance(arrivals, PoissonArrivals):
        after = {"kind": "bursty", "rate_hz": rounded(rate_hz), **values, "shared": shared}
        return [Estimate(("arrivals",), arrivals.model_dump(), after, count, interval, "interval of rate_hz")]
    # The factors are relative to the mean rate, so they and the rate change together or not at all.
    intervals = {"rate_hz": interval} | _burst_intervals(bursts, shared, records)
    before = _relative_to_mean(arrivals)
    fits = {"rate_hz": rounded(rate_hz)} | values
    is_same = shared == arrivals.shared and all(
        name in intervals and intervals[name][0] <= before[name] <= intervals[name][1] for name in fits
    )
    return [
        Estimate(
            ("arrivals", name),
            getattr(arrivals, name),
            None if is_same else value,
            count,
            intervals.get(name),
            "left: all within their intervals" if is_same else "",
        )
        for name, value in (fits | {"shared": shared}).items()
    ]


def _relative_to_mean(arrivals: BurstyArrivals) -> dict[str, float]:
    """The parameters with factors whose mean over time is 1."""
    mean = (arrivals.calm * arrivals.calm_s + arrivals.burst * arrivals.burst_s) / (arrivals.calm_s + arrivals.burst_s)
    scaled = {"rate_hz": arrivals.rate_hz * mean, "calm": arrivals.calm / mean, "burst": arrivals.burst / mean}
    return arrivals.model_dump() | scaled


def _burst_intervals(bursts: Bursts, shared: bool, records: Records) -> dict[str, tuple[float, float]]:
    """95% intervals of the parameters, by fits to requests that the fitted process gives (parametric bootstrap)."""
    random, span_s = np.random.default_rng(0), records.span_s
    count = 1 if shared else len(records.ues)
    rate_hz = len(records.requests) / span_s / count
    windows = [window for window in WINDOWS_S if window * WINDOWS_PER_SPAN <= span_s]
    fits = []
    for _ in range(REPEATS):
        try:
            fits.append(fit_bursts([simulate(bursts, rate_hz, span_s, random) for _ in range(count)], span_s, windows))
        except ValueError:
            continue
    if len(fits) < REPEATS // 2:
        return {}
    low, high = np.quantile(fits, (0.025, 0.975), axis=0)
    return {name: (float(low[at]), float(high[at])) for at, name in enumerate(Bursts._fields)}


def fit_rate_factors(scenario: Scenario, records: Records, needed: int) -> list[Estimate]:
    """The rate of each class of UEs relative to the arrivals'; the weighted mean of the factors stays as it was."""
    classes = [index for index, ue in enumerate(scenario.ues) for _ in range(ue.count)]
    by_class = Counter(classes[request.ue] for request in records.requests)
    journals = Counter(classes[ue] for ue in records.ues)
    if len(journals) < 2:
        return []
    users = sum(factors_of(scenario)[ue] for ue in records.ues)
    estimates = []
    for index, members in sorted(journals.items()):
        path, before, count = ("ues", index, "rate_factor"), scenario.ues[index].rate_factor, by_class[index]
        if count < needed:
            estimates.append(too_few(path, before, count, needed))
            continue
        per_request = users / len(records.requests) / members
        reach = Z * math.sqrt(count)
        interval = (count - reach) * per_request, (count + reach) * per_request
        estimates.append(measured(path, before, rounded(count * per_request, 3), count, interval))
    return estimates


def fit_kinds(scenario: Scenario, records: Records, needed: int) -> list[Estimate]:
    """The shares of the kinds of requests."""
    total, counts = len(records.requests), Counter(request.kind for request in records.requests)
    kinds = scenario.requests
    paths = [("requests", at, "share") for at in range(len(kinds))]
    if len(kinds) < 2:
        return []
    if total < needed:
        return [too_few(path, kind.share, total, needed) for path, kind in zip(paths, kinds, strict=True)]
    shares = shares_of([counts[kind.name] for kind in kinds])
    intervals = [share_interval(counts[kind.name], total) for kind in kinds]
    is_same = all(low <= kind.share <= high for kind, (low, high) in zip(kinds, intervals, strict=True))
    note = "left: all within their intervals" if is_same else ""
    return [
        Estimate(path, kind.share, None if is_same else share, counts[kind.name], interval, note)
        for path, kind, share, interval in zip(paths, kinds, shares, intervals, strict=True)
    ]


def fit_images(scenario: Scenario, records: Records, needed: int) -> list[Estimate]:
    """How often a request asks for how many images; as it was if each share lies within its interval."""
    path, before, total = ("images_per_request",), dict(scenario.images_per_request), len(records.requests)
    if total < needed:
        return [too_few(path, before, total, needed)]
    if isinstance(scenario.arrivals, TraceArrivals):
        return [left(path, before, total, "left: the trace has its own")]
    counts = Counter(request.images for request in records.requests)
    sizes = sorted(counts)
    intervals = {size: share_interval(counts[size], total) for size in sizes}
    if sizes == sorted(before) and all(low <= before[size] <= high for size, (low, high) in intervals.items()):
        return [left(path, before, total, "left: all within their intervals")]
    shares = shares_of([counts[size] for size in sizes]) if len(sizes) > 1 else [1.0]
    return [Estimate(path, before, dict(zip(sizes, shares, strict=True)), total)]
