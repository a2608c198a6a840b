"""The episode that the testbed replays is the simulator's own, and what was decided plays back to the same outcomes."""

import numpy as np
import pytest

from edgebrush.decision import observation as obs
from edgebrush.errors import UserError
from edgebrush.evaluation.episodes import play
from edgebrush.policies.load import load_policy
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.simulator import Simulator
from edgebrush.testbed.episode import draw_episode, simulate

TESTBED = load_scenario("testbed")
SEED, SECONDS = 4 * 10**9, 30.0


@pytest.fixture(scope="module")
def episode():
    return draw_episode(TESTBED, SEED, SECONDS)


def test_arrivals_and_decisions_play_back_to_the_same_outcomes(episode):
    rule = load_policy("priced-greedy", TESTBED)
    played = play(TESTBED.model_copy(update={"horizon_s": SECONDS}), rule, np.array([SEED]))
    played = played[np.lexsort((played["number"], played["ue"], played["arrival_s"]))]
    asked = [(arrival.ue, arrival.number, arrival.at_s, arrival.request) for arrival in episode.arrivals]
    assert asked == played[["ue", "number", "arrival_s", "request"]].tolist() and len(asked) > 50
    assert len(set(played["place"])) == 3
    decided = played[["place", "steps", "service_class"]].tolist()
    again = simulate(episode, decided)
    for column in ("ue", "number", "delay_s", "energy_ue_j", "energy_bs_j", "cost"):
        np.testing.assert_array_equal(again[column], played[column])


def test_rates_are_those_that_the_simulator_measures(episode):
    """The observation holds bits / rate of each BS: it must be this link's rate with nobody else on it."""
    simulator = Simulator(TESTBED, 1)
    simulator.reset(np.array([SEED]))
    ue = int(simulator.worlds.task[0][simulator.worlds.episode[0]["deciding"][0]]["ue"])
    _, candidates, _ = simulator.layout.split(simulator.observations[0])
    kind = TESTBED.requests[episode.arrivals[0].request]
    for bs in (0, 1):
        up, down = episode.uplink(bs), episode.downlink(bs)
        assert kind.bits_in / up(ue, 1) == pytest.approx(candidates[1 + bs, obs.UP_S], rel=1e-6)
        assert kind.bits_out / down(ue, 1) == pytest.approx(candidates[1 + bs, obs.DOWN_S], rel=1e-6)
        # With half of the band a sender has more than half of the rate up (all its power), exactly half of it down.
        assert 0.5 < up(ue, 2) / up(ue, 1) < 1
        assert down(ue, 2) == pytest.approx(0.5 * down(ue, 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"radio": {"fading": "rayleigh"}}, "testbed: radio.fading: a link must keep its rate; set none"),
        ({"mobility": {"speed_mps": 1.0}}, "mobility.speed_mps"),
        ({"decision": {"interval_s": 0.1}}, "decision.interval_s"),
    ],
)
def test_a_world_that_processes_cannot_be_is_said_so(change, said):
    (name, fields), *_ = change.items()
    part = getattr(TESTBED, name).model_copy(update=fields)
    with pytest.raises(UserError, match=said):
        draw_episode(TESTBED.model_copy(update={name: part}), SEED, SECONDS)
