"""Transfers over each BS's uplink and downlink band: exact processor sharing, one event per change.

A band with n transfers gives each ``r = (W/n)·log2(1 + P·g / (N·W/n))``, see ``docs/simulator.md``. A link with
measured rates gives each its rate over n. Its bits flow only after the latency; until then a transfer shares nothing.
"""

import numpy as np

from edgebrush.scenario.parameters import NONE

from .channel import block_at, capacity_bps, link_gain
from .compile import compiled
from .events import schedule, station_leaf
from .state import DOWN, UP


@compiled
def band_of(world, j, direction):
    """The state of BS j's uplink or downlink band."""
    return world.band[2 * j + direction]


@compiled
def start_transfer(params, world, t, direction, time):
    """Task t starts to send its input to its BS (``UP``), or to receive its result (``DOWN``)."""
    task = world.task[t]
    j = task.bs
    band = band_of(world, j, direction)
    _advance_transfers(world, band, time)
    task.remaining = task.bits_in if direction == UP else task.bits_out
    task.since = time
    task.flows_at = time + params.bs[j].latency_s
    task.next, band.head = band.head, t
    band.count += 1
    _update_rates(params, world, j, direction, time, direction == UP or band.count == 1)


@compiled
def end_transfer(params, world, j, direction, time):
    """The band's event at BS j: the task whose transfer is done, or NONE where only the coherence block changed."""
    band = band_of(world, j, direction)
    finished = band.first
    _advance_transfers(world, band, time)
    if finished != NONE:
        band.head = _unlink(world, band.head, finished)
        band.count -= 1
    _update_rates(params, world, j, direction, time, direction == UP or band.count == 0)
    return finished


@compiled
def _unlink(world, head, t):
    """Take task t out of the list that starts at ``head``; returns the list's new head."""
    if head == t:
        return world.task[t].next
    at = head
    while world.task[at].next != t:
        at = world.task[at].next
    world.task[at].next = world.task[t].next
    return head


@compiled
def _advance_transfers(world, band, time):
    """Subtract what the band's transfers have moved since its last event."""
    elapsed = time - band.since
    t = band.head
    while t != NONE:
        task = world.task[t]
        task.remaining -= task.rate * elapsed
        t = task.next
    band.since = time


@compiled
def _update_rates(params, world, j, direction, time, heard_elsewhere):
    """New rates for a band of BS j; with interference for all BSs' bands of that direction, if they hear the change.

    Other cells hear every uplink that starts or ends. A BS transmits at constant power while it has any downlink, so
    they hear it only switch on or off.
    """
    if params.common[0].interference == 0 or not heard_elsewhere:
        _set_rates(params, world, j, direction, time)
        return
    for other in range(params.common[0].bs_count):
        _advance_transfers(world, band_of(world, other, direction), time)
    for other in range(params.common[0].bs_count):
        _set_rates(params, world, other, direction, time)


@compiled
def _set_rates(params, world, j, direction, time):
    """Give each transfer its rate: bandwidth, noise and a BS's power are shared equally (processor sharing)."""
    common, fixed, band = params.common[0], params.bs[j], band_of(world, j, direction)
    leaf = station_leaf(params, j) + 1 + direction
    if band.count == 0:
        schedule(world, leaf, np.inf)
        return
    block = block_at(params, time)
    interference_w = 0.0
    if common.interference == 1 and direction == UP:
        interference_w = _uplink_interference_w(params, world, j, block)
    flowing = _count_flowing(world, band, time) if fixed.latency_s > 0.0 else band.count
    soonest, first = np.inf, NONE
    t = band.head
    while t != NONE:
        task = world.task[t]
        if task.flows_at > time:  # its first bit is still on the way
            task.rate = 0.0
            if task.flows_at - time < soonest:
                soonest, first = task.flows_at - time, NONE
            t = task.next
            continue
        if fixed.up_bps > 0.0:
            task.rate = (fixed.up_bps if direction == UP else fixed.down_bps) / flowing
        else:
            gain = link_gain(params, world, task.ue, j, block)
            if common.interference == 1 and direction == DOWN:
                interference_w = _downlink_interference_w(params, world, task.ue, j, block)
            noise_w = common.noise_w_per_hz * fixed.bandwidth_hz + interference_w
            power_w = params.ue[task.ue].radiated_w if direction == UP else fixed.power_w / flowing
            task.rate = capacity_bps(fixed.bandwidth_hz / flowing, power_w, gain, noise_w / flowing)
        left = task.remaining / task.rate
        if left <= soonest:  # of several that end together, the one that started first
            soonest, first = left, t
        t = task.next
    band.first = _schedule_transfer(params, world, leaf, time, block, soonest, first)


@compiled
def _count_flowing(world, band, time):
    """How many of a link's transfers send now: those whose latency has passed."""
    count = 0
    t = band.head
    while t != NONE:
        if world.task[t].flows_at <= time:
            count += 1
        t = world.task[t].next
    return count


@compiled
def _schedule_transfer(params, world, leaf, time, block, soonest, first):
    """Schedule the band's next event: its first transfer to finish, or the end of the coherence block if earlier."""
    border = (block + 1) * params.common[0].coherence_s
    if time + soonest <= border:
        schedule(world, leaf, time + max(soonest, 0.0))
        return first
    schedule(world, leaf, border)
    return NONE


@compiled
def _uplink_interference_w(params, world, j, block):
    """Interference in watts at BS j from other cells' uplinks; each transfer fills its share of the band."""
    received_w = 0.0
    for other in range(params.common[0].bs_count):
        if other == j:
            continue
        t = band_of(world, other, UP).head
        while t != NONE:
            i = world.task[t].ue
            watts = params.ue[i].radiated_w * link_gain(params, world, i, j, block)
            received_w += watts / band_of(world, other, UP).count
            t = world.task[t].next
    return received_w


@compiled
def _downlink_interference_w(params, world, i, j, block):
    """Interference in watts at UE i from the other BSs that transmit."""
    received_w = 0.0
    for other in range(params.common[0].bs_count):
        if other != j and band_of(world, other, DOWN).count > 0:
            received_w += params.bs[other].power_w * link_gain(params, world, i, other, block)
    return received_w
