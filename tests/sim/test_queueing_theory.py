"""Where the simulator is a queue that theory solves, its means are theory's, within the sampling error."""

import math

import numpy as np
import pytest

from edgebrush.sim.simulator import Simulator, records_needed
from tests.support.worlds import plain, play, write_profile

EPISODES, HORIZON_S = 24, 8000.0
RATE_HZ = 0.5
STEPS = (1, 2, 3)  # grid; a step takes SCALE_S, so service takes 0.5, 1.0 or 1.5 s
SCALE_S = 0.5


def assert_mean(outcomes, delays, expected):
    """The mean over all episodes is as expected, within 4.5 of its own standard errors."""
    of_episode = np.array([delays[outcomes["episode"] == e].mean() for e in range(EPISODES)])
    error = of_episode.std(ddof=1) / math.sqrt(EPISODES)
    assert error < 0.03 * expected  # tight enough to tell theories apart
    assert abs(of_episode.mean() - expected) < 4.5 * error


def queue(folder):
    """A single server behind Poisson arrivals: the UE's own device, or a BS that runs one task at a time."""
    phone = write_profile(folder, "phone", "light", round_slope_s=SCALE_S)
    server = write_profile(folder, "server", "heavy", round_slope_s=SCALE_S)
    return plain(
        folder,
        ues=[dict(name="phone", count=1, profile=phone, queue_limit=1000)],
        bss=[dict(name="bs", profile=server, batch_limit=1, queue_limit=10_000, connection_limit=20_000)],
        requests=[
            dict(
                name="any",
                share=1.0,
                delay_weight=1.0,
                energy_weight=0.0,
                quality_weight=1.0,
                bits_in=1e-3,
                bits_out=1.0,
            )
        ],
        arrivals=dict(kind="poisson", rate_hz=RATE_HZ),
        radio=dict(fading="none", downlink=False),
        decision=dict(step_grid=STEPS, classes=2),
        horizon_s=HORIZON_S,
    )


def delays_in_queue(place, folder, draw_choice):
    """Outcomes of tasks whose (steps' index, class) ``draw_choice(size)`` draws, and their delays."""
    scenario = queue(folder)
    simulator = Simulator(scenario, EPISODES, records=records_needed(scenario))

    def decide(simulator):
        step_index, service_class = draw_choice(simulator.episodes)
        return simulator.action_space.encode(place, step_index, service_class)

    play(simulator, range(EPISODES), decide)
    outcomes = simulator.outcomes()
    assert (outcomes["place"] == place).all() and not outcomes["lost"].any()
    return outcomes, outcomes["delay_s"]


@pytest.mark.parametrize("place", [0, 1])
def test_fixed_steps_make_an_m_d_1_queue(place, tmp_path):
    outcomes, delays = delays_in_queue(place, tmp_path, lambda size: (np.full(size, 2), np.zeros(size, int)))
    service_s = 3 * SCALE_S
    load = RATE_HZ * service_s
    assert_mean(outcomes, delays, service_s + load * service_s / (2 * (1 - load)))


@pytest.mark.parametrize("place", [0, 1])
def test_drawn_steps_make_an_m_g_1_queue(place, tmp_path):
    draw = np.random.default_rng(1)
    outcomes, delays = delays_in_queue(place, tmp_path, lambda size: (draw.integers(3, size=size), np.zeros(size, int)))
    service_s = SCALE_S * np.array(STEPS)
    wait_s = RATE_HZ * (service_s**2).mean() / (2 * (1 - RATE_HZ * service_s.mean()))  # Pollaczek-Khinchine
    assert_mean(outcomes, delays, service_s.mean() + wait_s)


@pytest.mark.parametrize("place", [0, 1])
def test_two_classes_wait_as_cobham_says(place, tmp_path):
    """Class 0: 40% of the tasks, 2 steps; class 1: the others, 3 steps; nobody is interrupted."""
    draw = np.random.default_rng(2)

    def draw_choice(size):
        service_class = (draw.random(size) > 0.4).astype(int)
        return 1 + service_class, service_class

    outcomes, delays = delays_in_queue(place, tmp_path, draw_choice)
    rate, service_s = RATE_HZ * np.array([0.4, 0.6]), SCALE_S * np.array([2, 3])
    residual_s = (rate * service_s**2).sum() / 2
    load = np.cumsum(rate * service_s)
    wait_s = residual_s / ((1 - load) * (1 - np.array([0, load[0]])))
    for p in (0, 1):
        mine = outcomes["service_class"] == p
        assert_mean(outcomes[mine], delays[mine], service_s[p] + wait_s[p])


def test_the_downlink_shares_its_band_like_an_m_g_1_ps_queue(tmp_path):
    """Two sizes of images, an engine that takes no time: each needs ``own time / (1 - load)``."""
    server = write_profile(tmp_path, "server", "heavy")
    gain = 10.0 ** (-(41.0 + 30.0) / 10)  # everything lies within a metre of the BS
    noise_w = 10.0 ** ((-174.0 + 7.0 - 30.0) / 10) * 1e6
    rate_bps = 1e6 * math.log2(1.0 + 5.0 * gain / noise_w)
    own_s = np.array([0.6, 2.4])
    shares = np.array([0.7, 0.3])
    kind = dict(delay_weight=1.0, energy_weight=0.0, quality_weight=1.0, bits_in=1e-3)
    scenario = plain(
        tmp_path,
        area_m=(0.5, 0.5),
        radio=dict(
            path_loss="log-distance",
            intercept_db=41.0,
            wall_loss_db=30.0,
            shadowing_db=0.0,
            fading="none",
            coherence_s=7.0,
        ),
        requests=[kind | dict(name=f"size {n}", share=shares[n], bits_out=own_s[n] * rate_bps) for n in range(2)],
        bss=[
            dict(
                name="bs",
                profile=server,
                speed=1e9,
                batch_limit=256,
                queue_limit=10_000,
                connection_limit=20_000,
                bandwidth_hz=1e6,
            )
        ],
        arrivals=dict(kind="poisson", rate_hz=RATE_HZ),
        decision=dict(step_grid=[1], classes=1),
        horizon_s=HORIZON_S,
    )
    simulator = Simulator(scenario, EPISODES, records=records_needed(scenario))
    play(simulator, range(EPISODES), lambda simulator: np.ones(EPISODES))
    outcomes = simulator.outcomes()
    load = RATE_HZ * (shares * own_s).sum()
    for n in range(2):
        mine = outcomes["request"] == n
        assert_mean(outcomes[mine], outcomes["delay_s"][mine], own_s[n] / (1 - load))
