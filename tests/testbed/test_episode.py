"""The testbed's episode is the simulator's, and replaying the same decisions gives the same outcomes."""

import json

import numpy as np
import pytest

from edgebrush.decision import observation as obs
from edgebrush.errors import UserError
from edgebrush.evaluation.episodes import play
from edgebrush.policies.load import load_policy
from edgebrush.profiles.catalogue import load_profile
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.schema import Endpoint, Link
from edgebrush.sim.simulator import Simulator
from edgebrush.testbed.episode import draw_episode, simulate

TESTBED = load_scenario("testbed")
SEED, SECONDS = 4 * 10**9, 30.0


@pytest.fixture(scope="module")
def episode():
    return draw_episode(TESTBED, SEED, SECONDS)


def test_replaying_tasks_and_decisions_gives_the_same_outcomes(episode):
    rule = load_policy("priced-greedy", TESTBED)
    played = play(TESTBED.model_copy(update={"horizon_s": SECONDS}), rule, np.array([SEED]))
    played = played[np.lexsort((played["number"], played["ue"], played["arrival_s"]))]
    drawn = [(task.ue, task.number, task.at_s, task.request) for task in episode.tasks]
    assert drawn == played[["ue", "number", "arrival_s", "request"]].tolist() and len(drawn) > 50
    assert len(set(played["place"])) == 3
    decided = played[["place", "steps", "service_class"]].tolist()
    again = simulate(episode, decided)
    for column in ("ue", "number", "delay_s", "energy_ue_j", "energy_bs_j", "cost"):
        np.testing.assert_array_equal(again[column], played[column])


def test_link_rates_are_the_simulators(episode):
    """The observation has bits / rate of each BS, with no other UE on the link."""
    simulator = Simulator(TESTBED, 1)
    simulator.reset(np.array([SEED]))
    ue = int(simulator.worlds.task[0][simulator.worlds.episode[0]["deciding"][0]]["ue"])
    _, candidates, _ = simulator.layout.split(simulator.observations[0])
    kind = TESTBED.requests[episode.tasks[0].request]
    for bs in (0, 1):
        up, down = episode.uplink(bs), episode.downlink(bs)
        assert kind.bits_in / up(ue, 1) == pytest.approx(candidates[1 + bs, obs.UP_S], rel=1e-6)
        assert kind.bits_out / down(ue, 1) == pytest.approx(candidates[1 + bs, obs.DOWN_S], rel=1e-6)
        # Half of the band gives more than half of the uplink rate (all power) and exactly half of the downlink rate.
        assert 0.5 < up(ue, 2) / up(ue, 1) < 1
        assert down(ue, 2) == pytest.approx(0.5 * down(ue, 1))


def measured(kind="edgebrush"):
    """The testbed with measured links, as `edgebrush init` writes it, in a radio channel that does not matter."""
    endpoint = Endpoint(base_url="http://10.0.0.5:8000/v1", kind=kind)
    link = Link(up_bps=1e6, down_bps=2e6, round_trip_s=0.01)
    bss = tuple(bs.model_copy(update={"endpoint": endpoint, "link": link}) for bs in TESTBED.bss)
    radio = TESTBED.radio.model_copy(update={"fading": "rayleigh", "shadowing_db": 8.0})
    return TESTBED.model_copy(update={"bss": bss, "radio": radio})


def test_a_scenario_of_measured_servers_is_played_without_them():
    episode = draw_episode(measured(), SEED, SECONDS)
    assert len(episode.tasks) > 50 and episode.uplink(0)(0, 1) == 1e6 and episode.downlink(1)(0, 2) == 1e6
    with pytest.raises(UserError, match="large is a server of kind localai, and the testbed runs `edgebrush serve`"):
        draw_episode(measured("localai"), SEED, SECONDS)


def test_a_profile_whose_images_the_stations_would_refuse_is_an_error(tmp_path):
    content = load_profile("sd15-a100").model_dump()
    for side_px in (512, 768):
        (tmp_path / f"mine-{side_px}.json").write_text(json.dumps(content | {"name": "mine", "resolution_px": side_px}))
        bss = tuple(bs.model_copy(update={"profile": f"mine-{side_px}.json"}) for bs in TESTBED.bss)
        scenario = TESTBED.model_copy(update={"bss": bss, "directory": tmp_path})
        if side_px == 512:
            assert draw_episode(scenario, SEED, SECONDS).tasks
            continue
        with pytest.raises(
            UserError, match="large: its profile has images of 768 px, and the testbed's stations take 28"
        ):
            draw_episode(scenario, SEED, SECONDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radio": {"fading": "rayleigh"}}, "testbed: radio.fading: link rates must be constant; set none"),
        ({"mobility": {"speed_mps": 1.0}}, "mobility.speed_mps"),
        ({"decision": {"interval_s": 0.1}}, "decision.interval_s"),
    ],
)
def test_a_scenario_that_processes_cannot_reproduce_is_an_error(change, message):
    (name, fields), *_ = change.items()
    part = getattr(TESTBED, name).model_copy(update=fields)
    with pytest.raises(UserError, match=message):
        draw_episode(TESTBED.model_copy(update={name: part}), SEED, SECONDS)
