"""The radio channel: positions, path loss, shadowing, fading, and the rate of a link.

Every draw is a hash (``draws.py``), so a gain is computed when it is needed and cached for its coherence block.
"""

import math

import numpy as np

from edgebrush.scenario.parameters import NONE, UMI

from . import draws
from .compile import compiled
from .rows import array_at

UE_HEIGHT_M, BS_HEIGHT_M = 1.5, 10.0
LIGHT_MPS = 299_792_458.0


@compiled
def block_at(params, time):
    """The coherence block at ``time``; the small term keeps a block's first instant in it despite rounding."""
    return math.floor(time / params.common[0].coherence_s + 1e-9)


@compiled
def place_ue(params, world, i):
    """Draw UE i's position in the area and start its first leg."""
    common, ue, seed = params.common[0], world.ue[i], world.episode[0].seed
    ue.x = common.width_m * draws.uniform(seed, draws.PLACE_X, i, 0)
    ue.y = common.height_m * draws.uniform(seed, draws.PLACE_Y, i, 0)
    ue.leg_s, ue.leg_until, ue.legs = 0.0, 0.0, 0
    ue.leg_x, ue.leg_y = ue.x, ue.y


@compiled
def position(params, world, i, time):
    """Position of UE i at ``time`` (random waypoint: walk straight to a random point, pause, repeat)."""
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
    """Gain of UE i to BS j at ``time`` from path loss and shadowing, without fading."""
    common, link = params.common[0], link_of(params, world, i, j)
    knot = math.floor(time / common.shadowing_s)
    if link.knot == NONE or common.speed_mps > 0.0:
        _update_path_loss(params, world, i, j, time)
    if link.knot != knot:
        seed, pair = world.episode[0].seed, i * common.bs_count + j
        link.shadow_before = draws.normal(seed, draws.SHADOW, pair, knot)
        link.shadow_after = draws.normal(seed, draws.SHADOW, pair, knot + 1)
        link.knot = knot
    # Interpolating two independent normals on a circle keeps the variance and works at any time.
    turn = 0.5 * math.pi * (time / common.shadowing_s - knot)
    shadow_db = link.deviation_db * (math.cos(turn) * link.shadow_before + math.sin(turn) * link.shadow_after)
    return 10.0 ** (-(link.loss_db + shadow_db) / 10.0)


@compiled
def _update_path_loss(params, world, i, j, time):
    """Set path and wall loss of UE i to BS j at ``time``, and the standard deviation of the shadowing."""
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
    """Gain of UE i to BS j in a coherence block, with fading."""
    gain = mean_gain(params, world, i, j, block * params.common[0].coherence_s)
    if params.common[0].rayleigh == 1:
        pair = i * params.common[0].bs_count + j
        gain *= draws.exponential(world.episode[0].seed, draws.FADING, pair, block)
    return gain


@compiled
def choose_neighbours(params, world, i, time):
    """List the BSs with the highest gain to UE i, in BS order; all BSs where they are few enough."""
    common = params.common[0]
    if common.neighbours == 0 or common.neighbours == common.bs_count:
        for j in range(common.neighbours):
            world.neighbour[i * common.neighbours + j] = j
        return
    block_start = block_at(params, time) * common.coherence_s
    heard = array_at(world.neighbour, i * common.neighbours, (common.neighbours,))
    gains = np.empty(common.neighbours)
    count = 0
    for j in range(common.bs_count):  # insertion into the best so far, sorted by gain
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
    for n in range(1, count):  # sort them by BS number
        j, at = heard[n], n
        while at > 0 and heard[at - 1] > j:
            heard[at] = heard[at - 1]
            at -= 1
        heard[at] = j


@compiled
def link_of(params, world, i, j):
    """The record of the link between UE i and BS j."""
    return world.link[i * params.common[0].bs_count + j]


@compiled
def link_gain(params, world, i, j, block):
    """Gain of UE i to BS j in a coherence block, cached until the block changes."""
    link = link_of(params, world, i, j)
    if link.block != block:
        link.gain = gain_of_block(params, world, i, j, block)
        link.block = block
    return link.gain


@compiled
def capacity_bps(bandwidth_hz, power_w, gain, noise_w):
    """Shannon rate in bit/s for a band's noise power; ``log1p`` keeps the rate of very weak links above zero."""
    return bandwidth_hz * math.log1p(power_w * gain / noise_w) / math.log(2.0)


@compiled
def measured_rates(params, world, i, j, block):
    """(uplink, downlink) rate in bit/s between UE i and BS j if no other UE used the band."""
    bs = params.bs[j]
    if bs.up_bps > 0.0:
        return bs.up_bps, bs.down_bps
    gain = link_gain(params, world, i, j, block)
    noise_w = params.common[0].noise_w_per_hz * bs.bandwidth_hz
    up = capacity_bps(bs.bandwidth_hz, params.ue[i].radiated_w, gain, noise_w)
    return up, capacity_bps(bs.bandwidth_hz, bs.power_w, gain, noise_w)
