"""Arrival processes: Poisson, two-state Markov-modulated Poisson, or the replay of a trace."""

import numpy as np

from edgebrush.scenario.parameters import BURSTY, TRACE

from . import draws
from .compile import compiled


@compiled
def start_arrivals(params, world):
    """Draw every UE's first request, or the window of the trace that this episode replays."""
    common, episode = params.common[0], world.episode[0]
    if common.arrivals == TRACE:
        episode.trace_start_s = draws.uniform(episode.seed, draws.WINDOW, 0, 0) * common.trace_s
        episode.trace_next = _first_row_from(params.trace_s, common.trace_rows, episode.trace_start_s)
        episode.trace_wraps = 0
        episode.open_arrivals = 1
        _next_of_trace(params, world)
        for i in range(1, common.ue_count):
            world.ue[i].next_arrival = np.inf
        return
    episode.open_arrivals = common.ue_count
    for i in range(common.ue_count):
        ue = world.ue[i]
        if common.arrivals == BURSTY:
            stay = common.calm_s + common.burst_s
            chain = _chain(common, i)
            burst = draws.uniform(episode.seed, draws.PHASE_START, chain, 0) < common.burst_s / stay
            ue.phase = 1 if burst else 0
            ue.phase_until = 0.0
            _stay(common, episode.seed, ue, i)
        next_request(params, world, i, 0.0)


@compiled
def next_request(params, world, i, time):
    """Draw the time of UE i's next request after ``time`` and its number of images."""
    common, episode, ue = params.common[0], world.episode[0], world.ue[i]
    work = draws.exponential(episode.seed, draws.GAP, i, ue.requests) / (common.rate_hz * params.ue[i].rate_factor)
    if common.arrivals == BURSTY:
        # Time change: a unit-rate exponential is consumed at the rate of the current phase.
        while True:
            factor = common.burst if ue.phase == 1 else common.calm
            if work <= factor * (ue.phase_until - time):
                time += work / factor
                break
            work -= factor * (ue.phase_until - time)
            time = ue.phase_until
            ue.phase = 1 - ue.phase
            _stay(common, episode.seed, ue, i)
        ue.next_arrival = time
    else:
        ue.next_arrival = time + work
    ue.images_left = _images(params, episode.seed, i, ue.requests)
    ue.requests += 1
    _close(episode, ue)


@compiled
def after_task(params, world, i, time):
    """Advance arrival source i after it produced one task."""
    ue = world.ue[i]
    if params.common[0].arrivals == TRACE:
        _next_of_trace(params, world)
        return
    ue.images_left -= 1
    if ue.images_left == 0:
        next_request(params, world, i, time)


@compiled
def _next_of_trace(params, world):
    common, episode, source = params.common[0], world.episode[0], world.ue[0]
    if episode.trace_next >= common.trace_rows:
        episode.trace_next = 0
        episode.trace_wraps += 1
    row = episode.trace_next
    episode.trace_next += 1
    episode.trace_ue = params.trace_ue[row]
    same_time = row > 0 and params.trace_s[row - 1] == params.trace_s[row]
    if not (same_time and params.trace_ue[row - 1] == params.trace_ue[row]):
        world.ue[episode.trace_ue].requests += 1  # images of one request arrive together and share its kind
    source.next_arrival = params.trace_s[row] + episode.trace_wraps * common.trace_s - episode.trace_start_s
    _close(episode, source)


@compiled
def _first_row_from(times, count, time):
    """Index of the first of ``count`` sorted ``times`` that is at or after ``time`` (bisection)."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if times[middle] < time:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _close(episode, ue):
    if ue.next_arrival >= episode.horizon_s:
        ue.next_arrival = np.inf
        episode.open_arrivals -= 1


@compiled
def _chain(common, i):
    """The modulating chain of UE i: one shared by all UEs, or its own."""
    return 0 if common.shared_bursts == 1 else i + 1


@compiled
def _stay(common, seed, ue, i):
    mean_s = common.burst_s if ue.phase == 1 else common.calm_s
    ue.phase_until += mean_s * draws.exponential(seed, draws.PHASE_STAY, _chain(common, i), ue.phases)
    ue.phases += 1


@compiled
def _images(params, seed, i, request):
    return params.images[pick(params.images, draws.uniform(seed, draws.IMAGES, i, request))].count


@compiled
def pick(table, u):
    """Sample a row of a table of cumulative shares with a uniform draw ``u``."""
    row = 0
    while u >= table[row].cumulative_share:
        row += 1
    return row
