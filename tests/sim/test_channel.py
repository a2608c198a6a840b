"""Gains against formulas written here once more, from TR 38.901 and from the definitions of the draws."""

import math

import numpy as np
import pytest

from edgebrush.sim.channel import gain_of_block, mean_gain, position
from edgebrush.sim.compile import compiled
from edgebrush.sim.simulator import Simulator, compiled_parameters, episode_world
from tests.support.worlds import plain

UES, BSS = 500, 6
PHONES = [dict(name="phone", count=UES, profile="sd15-snapdragon-8-elite")]
STATIONS = [dict(name="bs", count=BSS, profile="sd15-a100")]


@compiled(entry=True)
def fill_gains(arrays, worlds, time, block, mean, full):
    """Gains without fading at a moment, and with it in a block."""
    params, world = compiled_parameters(arrays), episode_world(worlds, 0)
    for i in range(mean.shape[0]):
        for j in range(mean.shape[1]):
            mean[i, j] = mean_gain(params, world, i, j, time)
            full[i, j] = gain_of_block(params, world, i, j, block)


@compiled(entry=True)
def fill_places(arrays, worlds, time, places):
    params, world = compiled_parameters(arrays), episode_world(worlds, 0)
    for i in range(places.shape[0]):
        places[i, 0], places[i, 1] = position(params, world, i, time)


class Air:
    """A scenario's channels, all pairs at once."""

    def __init__(self, seed=1, mobility=(), **radio):
        scenario = plain(ues=PHONES, bss=STATIONS, radio=radio, area_m=(1500.0, 900.0), mobility=dict(mobility))
        self.simulator = Simulator(scenario, 1)
        self.simulator.reset(np.array([seed]))

    def gains(self, time=0.0, block=0):
        mean, full = np.empty((UES, BSS)), np.empty((UES, BSS))
        fill_gains(self.simulator.params, self.simulator.worlds, time, block, mean, full)
        return mean, full

    def places(self, time):
        places = np.empty((UES, 2))
        fill_places(self.simulator.params, self.simulator.worlds, time, places)
        return places

    def distances(self):
        bs = self.simulator.params.bs
        places = self.places(0.0)
        return np.hypot(places[:, :1] - bs["x"], places[:, 1:] - bs["y"])


def db(gain):
    return 10.0 * np.log10(gain)


def close(found, expected, deviation, count):
    """Within 4.5 standard errors of the mean of so many draws."""
    return abs(found - expected) < 4.5 * deviation / math.sqrt(count)


@pytest.mark.parametrize("carrier_ghz", [0.7, 3.5, 28.0])
def test_umi_street_canyon(carrier_ghz):
    air = Air(shadowing_db=0.0, carrier_ghz=carrier_ghz, wall_loss_db=3.0)
    distance = air.distances()
    assert distance.max() > 1000 and distance.min() < 18
    d3 = np.sqrt(distance**2 + 8.5**2)
    breakpoint_m = 4 * 9.0 * 0.5 * carrier_ghz * 1e9 / 299792458.0
    near = 32.4 + 21 * np.log10(d3) + 20 * np.log10(carrier_ghz)
    far = 32.4 + 40 * np.log10(d3) + 20 * np.log10(carrier_ghz) - 9.5 * np.log10(breakpoint_m**2 + 8.5**2)
    los_db = np.where(distance <= breakpoint_m, near, far)
    nlos_db = np.maximum(los_db, 35.3 * np.log10(d3) + 22.4 + 21.3 * np.log10(carrier_ghz))
    found_db = -db(air.gains()[0]) - 3.0
    is_los = np.isclose(found_db, los_db, rtol=1e-10)
    is_nlos = np.isclose(found_db, nlos_db, rtol=1e-10)
    assert (is_los | is_nlos).all()
    chance = np.where(distance <= 18, 1, 18 / distance + np.exp(-distance / 36) * (1 - 18 / distance))
    assert is_los[distance <= 18].all()
    for low, high in ((18, 60), (60, 200), (200, 2000)):
        ring = (distance > low) & (distance <= high) & ~(is_los & is_nlos)
        assert close(is_los[ring].mean(), chance[ring].mean(), 0.5, ring.sum())


def test_log_distance():
    air = Air(path_loss="log-distance", intercept_db=40.0, exponent_db=31.0, shadowing_db=0.0)
    expected_db = 40 + 31 * np.log10(np.maximum(1, air.distances()))
    assert -db(air.gains()[0]) == pytest.approx(expected_db, rel=1e-10)


@pytest.mark.parametrize("shadowing_db, deviation", [(None, 4.0), (7.0, 7.0)])
def test_shadowing_is_gaussian_and_forgets_within_its_time(shadowing_db, deviation):
    air = Air(
        path_loss="log-distance",
        intercept_db=40.0,
        exponent_db=31.0,
        shadowing_db=shadowing_db,
        shadowing_time_s=20.0,
    )
    loss_db = 40 + 31 * np.log10(np.maximum(1, air.distances()))
    at = {time: (-db(air.gains(time)[0]) - loss_db).ravel() / deviation for time in (0.0, 10.0, 20.0, 33.0, 53.0)}
    count = UES * BSS
    for shadow in at.values():
        assert close(shadow.mean(), 0, 1, count) and close((shadow**2).mean(), 1, math.sqrt(2), count)
        assert close((abs(shadow) > 1.96).mean(), 0.05, 0.22, count)
    assert close((at[0.0] * at[10.0]).mean(), math.cos(math.pi / 4), 1.3, count)
    assert close((at[0.0] * at[20.0]).mean(), 0, 1, count)
    assert close((at[33.0] * at[53.0]).mean(), math.cos(0.65 * math.pi / 2) * math.sin(0.65 * math.pi / 2), 1.3, count)


def test_umi_shadowing_has_the_deviation_of_the_sight():
    flat, rough = Air(shadowing_db=0.0), Air()
    distance = flat.distances()
    shadow = db(rough.gains()[0]) - db(flat.gains()[0])
    sure = distance <= 18
    assert close((shadow[sure] ** 2).mean() / 4.0**2, 1, math.sqrt(2), sure.sum())
    far = distance > 400  # hardly anyone in sight there
    assert (shadow[far] ** 2).mean() == pytest.approx(7.82**2, rel=0.15)


def test_fading_is_exponential_with_mean_1_and_new_in_each_block():
    air = Air(fading="rayleigh", coherence_s=2.0)
    power = []
    for block in (0, 1, 7):
        mean, full = air.gains(2.0 * block, block)
        power.append((full / mean).ravel())
    count = UES * BSS
    for drawn in power:
        assert close(drawn.mean(), 1, 1, count)
        assert close((drawn > 2).mean(), math.exp(-2), 0.35, count)
    assert close((power[0] * power[1]).mean(), 1, math.sqrt(3), count)
    assert (Air(fading="none").gains()[0] == Air(fading="none").gains()[1]).all()


def test_ues_walk_straight_pause_and_stay_in_the_area():
    air = Air(mobility=dict(speed_mps=2.0, pause_s=5.0))
    times = np.arange(0.0, 400.0, 0.5)
    track = np.array([air.places(time) for time in times])
    steps = np.hypot(*np.moveaxis(np.diff(track, axis=0), -1, 0))
    assert steps.max() <= 2.0 * 0.5 + 1e-9
    assert (track.min(axis=(0, 1)) >= 0).all() and (track.max(axis=(0, 1)) <= (1500, 900)).all()
    walking = steps > 0.999
    assert walking.mean() > 0.8 and (steps < 1e-9).any()
    assert track[0].mean(axis=0) == pytest.approx((750, 450), rel=0.1)
