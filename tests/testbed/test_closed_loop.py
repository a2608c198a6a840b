"""The closed loop: different decisions are found and warned about, equal ones and noise are not."""

import csv
import json

import numpy as np
import pytest

from edgebrush.policies.load import load_policy
from edgebrush.report.closed_loop import table
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.state import OUTCOME
from edgebrush.testbed.closed_loop import compare, compare_all, measures, warnings, write_closed_loop
from edgebrush.testbed.episode import decide_in_simulator, draw_episode, simulate

TESTBED = load_scenario("testbed")
OWN_SHARE = measures(TESTBED)["share own device"]


def tasks(own_shares, cost=1.0, per_block=40):
    """Tasks of one block of arrivals per share of the own device."""
    rows = np.zeros(per_block * len(own_shares), OUTCOME)
    for number, share in enumerate(own_shares):
        block = rows[number * per_block : (number + 1) * per_block]
        block["arrival_s"] = 10.0 * number + np.linspace(0.0, 9.0, per_block)
        block["place"] = np.arange(per_block) >= share * per_block
    rows["cost"], rows["delay_s"], rows["steps"] = cost, np.linspace(0.1, 2.0, len(rows)), 6
    return rows


def test_the_simulator_decides_by_the_policy_itself():
    """The policy's own decisions, replayed, give the same rows; the testbed's decisions are not used."""
    episode = draw_episode(TESTBED, 4 * 10**9, 30.0)
    rows = decide_in_simulator(episode, load_policy("priced-greedy", TESTBED))
    assert [(row["ue"], row["number"]) for row in rows] == [(task.ue, task.number) for task in episode.tasks]
    replayed = simulate(episode, rows[["place", "steps", "service_class"]].tolist())
    np.testing.assert_array_equal(rows["delay_s"], replayed["delay_s"])
    assert len(set(rows["place"])) == 3


def test_shares_that_part_are_a_warning():
    pairs = {"a-rule": (tasks([0.95, 1.0, 0.975, 1.0]), tasks([0.2, 0.3, 0.25, 0.25]))}
    found = compare_all(TESTBED, pairs)
    own = found["a-rule"]["share own device"]
    assert own.testbed == pytest.approx(0.98, abs=0.01) and own.simulator == 0.25
    assert 0.0 < own.noise < 0.15 and own.significant
    first, second = warnings(TESTBED, pairs, found)
    assert first.startswith("a-rule: the share of own device is 98% in the testbed, but 25% in the simulator")
    assert "(difference +73 points, noise ±" in first and "share of large is 2%" in second


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([0.3, 0.2, 0.4, 0.3], [0.3, 0.2, 0.4, 0.3]),  # the same
        ([0.0, 0.6, 0.1, 0.7], [0.5, 0.1, 0.0, 0.4]),  # 10 points, but the blocks differ by more
        ([0.325] * 4, [0.3] * 4),  # without noise, but less than 5 points
        ([1.0], [0.0]),  # one block: the noise is unknown
    ],
)
def test_noise_and_small_differences_are_no_warning(ours, theirs):
    pairs = {"a-rule": (tasks(ours), tasks(theirs))}
    assert warnings(TESTBED, pairs, compare_all(TESTBED, pairs)) == []


def test_the_interval_of_the_difference_covers_the_truth():
    """Blocks whose shares differ by independent noise around 5 points: 95% of the intervals hold the 5 points."""
    random, covered = np.random.default_rng(1), 0
    for _ in range(200):
        theirs = random.uniform(0.2, 0.6, 6)
        found = compare(
            tasks(theirs + 0.05 + random.normal(0, 0.1, 6), per_block=200), tasks(theirs, per_block=200), OWN_SHARE
        )
        covered += abs(found.difference - 0.05) <= found.noise
    assert 0.9 <= covered / 200 <= 0.99


def test_another_winner_in_the_simulator_is_a_warning():
    even = [0.3] * 4
    pairs = {
        "a": (tasks(even, cost=0.8), tasks(even, cost=0.9)),
        "b": (tasks(even, cost=0.9), tasks(even, cost=0.7)),
    }
    (sentence,) = warnings(TESTBED, pairs, compare_all(TESTBED, pairs))
    assert sentence == "the cheapest policy is a in the testbed, but b in the simulator"
    noisy = pairs["b"][0]
    noisy["cost"] = np.where(noisy["arrival_s"] < 10.0, 2.0, 0.5)
    (sentence,) = warnings(TESTBED, pairs, compare_all(TESTBED, pairs))
    assert sentence.endswith("in the testbed their costs differ by less than the noise")


def test_files_and_table_hold_every_measure(tmp_path):
    pairs = {"a": (tasks([0.3, 0.4]), tasks([0.3, 0.3])), "b": (tasks([0.5]), tasks([0.5]))}
    content, sentences = write_closed_loop(TESTBED, pairs, tmp_path)
    assert json.loads((tmp_path / "closed-loop.json").read_text()) == content and sentences == []
    assert content["winner"] == {"testbed": "a", "simulator": "a"}
    with open(tmp_path / "closed-loop.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(measures(TESTBED)) and rows[0]["testbed"] == "0.35" and rows[-1]["noise"] == ""
    assert (tmp_path / "closed-loop.png").read_bytes().startswith(b"\x89PNG")
    header, own, *_ = table(content)
    assert header == ["", "a", "b"] and own[0] == "share own device"
    assert own[1].startswith("35% | 30% ±") and own[2] == "50% | 50%"
