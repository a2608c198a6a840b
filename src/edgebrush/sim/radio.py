"""Channels and transfers: path loss, shadowing, fading, and processor sharing of each BS's two bands.

Rates: ``r = (W/n)·log2(1 + P·g / (N·W/n))``, see ``docs/simulator.md``. Every draw is random access (a hash),
so a gain is worked out when it is needed and kept for its coherence block.
"""

import math

import numpy as np

from edgebrush.scenario.parameters import NONE, UMI

from . import draws
from .compile import compiled
from .events import schedule, station_leaf
from .rows import array_at
from .state import DOWN, UP

UE_HEIGHT_M, BS_HEIGHT_M = 1.5, 10.0
LIGHT_MPS = 299_792_458.0


@compiled
def block_at(params, time):
    """The coherence block of a moment; the small term keeps a block's own border inside it."""
    return math.floor(time / params.common[0].coherence_s + 1e-9)


@compiled
def place_ue(params, world, i):
    """Put UE i somewhere in the area, and start its first leg."""
    common, ue, seed = params.common[0], world.ue[i], world.episode[0].seed
    ue.x = common.width_m * draws.uniform(seed, draws.PLACE_X, i, 0)
    ue.y = common.height_m * draws.uniform(seed, draws.PLACE_Y, i, 0)
    ue.leg_s, ue.leg_until, ue.legs = 0.0, 0.0, 0
    ue.leg_x, ue.leg_y = ue.x, ue.y


@compiled
def position(params, world, i, time):
    """Where UE i is (random waypoint: walk straight to a drawn place, pause, draw the next)."""
    common, ue = params.common[0], world.ue[i]
    if common.speed_mps == 0.0:
        return ue.x, ue.y
    while time >= ue.leg_until:
        seed = world.episode[0].seed
        ue.x, ue.y, ue.leg_s = ue.leg_x, ue.leg_y, ue.leg_until
        ue.leg_x = common.width_m * draws.uniform(seed, draws.WAYPOINT_X, i, ue.legs)
        ue.leg_y = common.height_m * draws.uniform(seed, draws.WAYPOINT_Y, i, ue.legs)
        ue.legs += 1
        walk_s = math.hypot(ue.leg_x - ue.x, ue.leg_y - ue.y) / common.speed_mps
        ue.leg_until = ue.leg_s + walk_s + common.pause_s
    walk_s = math.hypot(ue.leg_x - ue.x, ue.leg_y - ue.y) / common.speed_mps
    done = min(1.0, (time - ue.leg_s) / walk_s) if walk_s > 0.0 else 1.0
    return ue.x + done * (ue.leg_x - ue.x), ue.y + done * (ue.leg_y - ue.y)


@compiled
def umi_path_loss_db(distance_m, carrier_ghz, line_of_sight):
    """3GPP TR 38.901 table 7.4.1-1, UMi street canyon; distance on the ground."""
    d = max(distance_m, 1.0)
    d3 = math.hypot(d, BS_HEIGHT_M - UE_HEIGHT_M)
    frequency = 20.0 * math.log10(carrier_ghz)
    breakpoint_m = 4.0 * (BS_HEIGHT_M - 1.0) * (UE_HEIGHT_M - 1.0) * carrier_ghz * 1e9 / LIGHT_MPS
    if d <= breakpoint_m:
        los = 32.4 + 21.0 * math.log10(d3) + frequency
    else:
        beyond = 9.5 * math.log10(breakpoint_m**2 + (BS_HEIGHT_M - UE_HEIGHT_M) ** 2)
        los = 32.4 + 40.0 * math.log10(d3) + frequency - beyond
    if line_of_sight:
        return los
    blocked = 22.4 + 35.3 * math.log10(d3) + 21.3 * math.log10(carrier_ghz) - 0.3 * (UE_HEIGHT_M - 1.5)
    return max(los, blocked)


@compiled
def umi_line_of_sight_probability(distance_m):
    """3GPP TR 38.901 table 7.4.2-1, UMi street canyon."""
    if distance_m <= 18.0:
        return 1.0
    return 18.0 / distance_m + math.exp(-distance_m / 36.0) * (1.0 - 18.0 / distance_m)


@compiled
def mean_gain(params, world, i, j, time):
    """Gain of UE i to BS j by path loss and shadowing, without fading, at a moment."""
    common, link = params.common[0], link_of(params, world, i, j)
    knot = math.floor(time / common.shadowing_s)
    if link.knot == NONE or common.speed_mps > 0.0:
        _see_path(params, world, i, j, time)
    if link.knot != knot:
        seed, pair = world.episode[0].seed, i * common.bs_count + j
        link.shadow_before = draws.normal(seed, draws.SHADOW, pair, knot)
        link.shadow_after = draws.normal(seed, draws.SHADOW, pair, knot + 1)
        link.knot = knot
    # A circular interpolation of independent normals keeps the variance and can be had at any moment.
    turn = 0.5 * math.pi * (time / common.shadowing_s - knot)
    shadow_db = link.deviation_db * (math.cos(turn) * link.shadow_before + math.sin(turn) * link.shadow_after)
    return 10.0 ** (-(link.loss_db + shadow_db) / 10.0)


@compiled
def _see_path(params, world, i, j, time):
    """Path and wall loss of UE i to BS j at a moment, and the deviation of the shadowing there."""
    common, link = params.common[0], link_of(params, world, i, j)
    x, y = position(params, world, i, time)
    distance = math.hypot(x - params.bs[j].x, y - params.bs[j].y)
    if common.path_loss == UMI:
        drawn = draws.uniform(world.episode[0].seed, draws.LOS, i, j)
        los = drawn < umi_line_of_sight_probability(distance)
        link.loss_db = umi_path_loss_db(distance, common.carrier_ghz, los)
        link.deviation_db = 4.0 if los else 7.82
    else:
        link.loss_db = common.intercept_db + common.exponent_db * math.log10(max(distance, 1.0))
        link.deviation_db = 4.0
    link.loss_db += common.wall_db
    if common.shadowing_db >= 0.0:
        link.deviation_db = common.shadowing_db


@compiled
def gain_of_block(params, world, i, j, block):
    """Full gain of UE i to BS j in a coherence block."""
    gain = mean_gain(params, world, i, j, block * params.common[0].coherence_s)
    if params.common[0].rayleigh == 1:
        pair = i * params.common[0].bs_count + j
        gain *= draws.exponential(world.episode[0].seed, draws.FADING, pair, block)
    return gain


@compiled
def choose_neighbours(params, world, i, time):
    """List the BSs that UE i hears best, in BS order; all of them where they are few enough."""
    common = params.common[0]
    if common.neighbours == 0 or common.neighbours == common.bs_count:
        for j in range(common.neighbours):
            world.neighbour[i * common.neighbours + j] = j
        return
    block_start = block_at(params, time) * common.coherence_s
    heard = array_at(world.neighbour, i * common.neighbours, (common.neighbours,))
    gains = np.empty(common.neighbours)
    count = 0
    for j in range(common.bs_count):  # keep the best so far, the best first
        gain = mean_gain(params, world, i, j, block_start)
        if count < common.neighbours:
            at = count
            count += 1
        elif gain > gains[count - 1]:
            at = count - 1
        else:
            continue
        while at > 0 and gains[at - 1] < gain:
            gains[at], heard[at] = gains[at - 1], heard[at - 1]
            at -= 1
        gains[at], heard[at] = gain, j
    for n in range(1, count):  # and list them in BS order
        j, at = heard[n], n
        while at > 0 and heard[at - 1] > j:
            heard[at] = heard[at - 1]
            at -= 1
        heard[at] = j


@compiled
def link_of(params, world, i, j):
    """The record of the pair UE i, BS j."""
    return world.link[i * params.common[0].bs_count + j]


@compiled
def link_gain(params, world, i, j, block):
    """Gain of UE i to BS j in a block, kept until the block changes."""
    link = link_of(params, world, i, j)
    if link.block != block:
        link.gain = gain_of_block(params, world, i, j, block)
        link.block = block
    return link.gain


@compiled
def capacity_bps(bandwidth_hz, power_w, gain, noise_w):
    """Shannon rate of a band with a given noise power over that band; log1p keeps weak links above zero."""
    return bandwidth_hz * math.log1p(power_w * gain / noise_w) / math.log(2.0)


@compiled
def measured_rates(params, world, i, j, block):
    """(uplink, downlink) rate in bit/s of UE i to BS j, were it alone on the band."""
    bs = params.bs[j]
    gain = link_gain(params, world, i, j, block)
    noise_w = params.common[0].noise_w_per_hz * bs.bandwidth_hz
    up = capacity_bps(bs.bandwidth_hz, params.ue[i].radiated_w, gain, noise_w)
    return up, capacity_bps(bs.bandwidth_hz, bs.power_w, gain, noise_w)


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
        interference_w = _received_uplinks(params, world, j, block)
    soonest, first = np.inf, NONE
    t = band.head
    while t != NONE:
        task = world.task[t]
        gain = link_gain(params, world, task.ue, j, block)
        if common.interference == 1 and direction == DOWN:
            interference_w = _received_downlinks(params, world, task.ue, j, block)
        noise_w = common.noise_w_per_hz * fixed.bandwidth_hz + interference_w
        power_w = params.ue[task.ue].radiated_w if direction == UP else fixed.power_w / band.count
        task.rate = capacity_bps(fixed.bandwidth_hz / band.count, power_w, gain, noise_w / band.count)
        left = task.remaining / task.rate
        if left <= soonest:  # of several that end together, the one that started first
            soonest, first = left, t
        t = task.next
    band.first = _schedule_transfer(params, world, leaf, time, block, soonest, first)


@compiled
def _schedule_transfer(params, world, leaf, time, block, soonest, first):
    """Plan the band's next event: its first transfer to finish, or the block's border if that is first."""
    border = (block + 1) * params.common[0].coherence_s
    if time + soonest <= border:
        schedule(world, leaf, time + max(soonest, 0.0))
        return first
    schedule(world, leaf, border)
    return NONE


@compiled
def _received_uplinks(params, world, j, block):
    """Watts that BS j hears from other cells' uplinks; each transfer fills its share of the band."""
    heard = 0.0
    for other in range(params.common[0].bs_count):
        if other == j:
            continue
        t = band_of(world, other, UP).head
        while t != NONE:
            i = world.task[t].ue
            watts = params.ue[i].radiated_w * link_gain(params, world, i, j, block)
            heard += watts / band_of(world, other, UP).count
            t = world.task[t].next
    return heard


@compiled
def _received_downlinks(params, world, i, j, block):
    """Watts that UE i hears from BSs other than j that are sending."""
    heard = 0.0
    for other in range(params.common[0].bs_count):
        if other != j and band_of(world, other, DOWN).count > 0:
            heard += params.bs[other].power_w * link_gain(params, world, i, other, block)
    return heard
