"""The three arrival processes have the rates, the burstiness and the order that they should."""

import math

import numpy as np
import pytest

from edgebrush.scenario.trace import read_trace, replay
from edgebrush.sim.simulator import Simulator, records_needed
from tests.support.worlds import plain, play

EPISODES = 3000
PHONE = dict(name="phone", profile="sd15-snapdragon-8-elite")


def arrivals(episodes=EPISODES, ues=1, **fields):
    """Every task of many episodes of 40 s: (outcomes, scenario)."""
    phones = [PHONE | dict(count=ues, queue_limit=0)]  # an arrival is an arrival, lost or not
    scenario = plain(**(dict(horizon_s=40.0, ues=phones) | fields))
    simulator = Simulator(scenario, episodes, records=records_needed(scenario))
    play(simulator, range(episodes), lambda simulator: np.zeros(episodes))
    return simulator.outcomes(), scenario


def assert_mean_and_variance(counts, mean, variance):
    """Both within 4.5 standard errors, which are estimated from the counts themselves."""
    away = counts - counts.mean()
    assert abs(counts.mean() - mean) < 4.5 * math.sqrt(counts.var() / len(counts))
    assert abs(counts.var() - variance) < 4.5 * math.sqrt(((away**2).var()) / len(counts))


def test_poisson_counts_gaps_and_shares():
    outcomes, _ = arrivals(
        arrivals=dict(kind="poisson", rate_hz=0.5),
        images_per_request={1: 0.75, 3: 0.25},
        contents=[dict(name="a", share=0.2, difficulty=1.0), dict(name="b", share=0.8, difficulty=2.0)],
    )
    first = np.unique(outcomes[["episode", "arrival_s"]])
    requests = np.bincount(first["episode"], minlength=EPISODES)
    assert_mean_and_variance(requests, 20.0, 20.0)
    images = np.bincount(outcomes["episode"], minlength=EPISODES)
    assert_mean_and_variance(images, 20.0 * 1.5, 20.0 * (0.75 + 0.25 * 9))
    share = (outcomes["content"] == 0).mean()
    assert abs(share - 0.2) < 4.5 * math.sqrt(0.2 * 0.8 * 3 / len(outcomes))
    one = outcomes[["episode", "arrival_s"]]
    same = one[1:] == one[:-1]
    assert (outcomes["content"][1:][same] == outcomes["content"][:-1][same]).all()


def test_rate_factors_scale_a_class_of_ues():
    phones = [PHONE | dict(name=f"x{factor}", count=1, rate_factor=factor) for factor in (0.5, 2.0)]
    scenario = plain(ues=phones, horizon_s=40.0)
    simulator = Simulator(scenario, EPISODES, records=records_needed(scenario))
    play(simulator, range(EPISODES), lambda simulator: np.zeros(EPISODES))
    outcomes = simulator.outcomes()
    for i, mean in enumerate((10.0, 40.0)):
        assert_mean_and_variance(np.bincount(outcomes["episode"][outcomes["ue"] == i], minlength=EPISODES), mean, mean)


BURSTS = dict(kind="bursty", rate_hz=1.0, calm=0.1, burst=2.0, calm_s=6.0, burst_s=3.0)


def mmpp(seconds):
    """Mean of the counts of the process above, and their variance beyond it."""
    leave_calm, leave_burst = 1 / 6.0, 1 / 3.0
    both = leave_calm + leave_burst
    mean = seconds * (0.1 * leave_burst + 2.0 * leave_calm) / both
    rate_variance = (2.0 - 0.1) ** 2 * leave_calm * leave_burst / both**2
    return mean, 2 * rate_variance * (seconds / both - (1 - math.exp(-both * seconds)) / both**2)


@pytest.mark.parametrize("seconds", [2.0, 10.0, 40.0])
def test_bursts_have_the_mean_and_the_dispersion_of_an_mmpp(seconds):
    outcomes, scenario = arrivals(arrivals=BURSTS)
    counts = np.bincount(outcomes["episode"][outcomes["arrival_s"] < seconds], minlength=EPISODES)
    mean, beyond_poisson = mmpp(seconds)
    assert scenario.task_rate_hz * seconds == pytest.approx(mean)
    assert_mean_and_variance(counts, mean, mean + beyond_poisson)


@pytest.mark.parametrize("shared", [True, False])
def test_bursts_come_to_all_together_or_to_each_alone(shared):
    outcomes, _ = arrivals(arrivals=BURSTS | dict(shared=shared), ues=2)
    a, b = (np.bincount(outcomes["episode"][outcomes["ue"] == i], minlength=EPISODES) for i in range(2))
    products = (a - a.mean()) * (b - b.mean())
    expected = mmpp(40.0)[1] if shared else 0.0
    assert abs(products.mean() - expected) < 4.5 * products.std() / math.sqrt(EPISODES)


def test_a_trace_is_replayed_in_its_order_from_a_drawn_moment_and_round_its_end(tmp_path):
    draw = np.random.default_rng(1)
    with open(tmp_path / "trace.csv", "w") as file:
        print("gmt_create,groupId,num_images_per_prompt", file=file)
        for second in np.sort(draw.integers(3000, size=400)):
            moment = f"2024-11-15 {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            print(f"{moment},user {draw.integers(40)},{draw.integers(1, 4)}", file=file)
    outcomes, _ = arrivals(
        200,
        ues=5,
        arrivals=dict(kind="trace", file="trace.csv", rate_hz=0.5),
        horizon_s=100.0,
        folder=tmp_path,
    )
    time_s, ue = replay(read_trace(tmp_path / "trace.csv"), 5, 2.5)
    span_s = time_s[-1]
    assert span_s == pytest.approx(len(time_s) / 2.5)
    wraps = 0
    for e in range(200):
        mine = outcomes[outcomes["episode"] == e]
        mine = mine[np.lexsort((mine["ue"], mine["number"], mine["arrival_s"]))]
        first = mine["arrival_s"][0]
        fits = 0
        for start in np.unique(time_s - first):  # the first arrival is some row of the trace
            times = (time_s - start) % span_s
            order = np.argsort(times, kind="stable")[: len(mine) + 1]
            if abs(times[order[:-1]] - mine["arrival_s"]).max() < 1e-6 and times[order[-1]] > 100.0 - 1e-6:
                fits += 1
                assert sorted(zip(times[order[:-1]].round(4), ue[order[:-1]], strict=True)) == sorted(
                    zip(mine["arrival_s"].round(4), mine["ue"], strict=True)
                )
                wraps += start + 100.0 > span_s
        assert fits == 1
    assert abs(wraps / 200 - 100.0 / span_s) < 4.5 * 0.4 / math.sqrt(200)
