"""Links with measured rates: transfer times, sharing and round trips by hand; scenarios without one are unchanged."""

import numpy as np
import pytest
from pydantic import ValidationError

from edgebrush.scenario.load import fields_hash, load_scenario
from edgebrush.sim.simulator import Simulator, records_needed
from edgebrush.testbed.episode import Episode
from tests.support.worlds import plain, play, write_profile

UP_BPS, DOWN_BPS, ROUND_TRIP_S = 2e5, 1e6, 0.3
BITS_IN, BITS_OUT = 1e4, 1e5  # of the plain world's requests
STEP_S = 1e-6
LINK = dict(up_bps=UP_BPS, down_bps=DOWN_BPS, round_trip_s=ROUND_TRIP_S)


def linked(folder, images=1, link=LINK, **fields):
    server = write_profile(folder, "server", "heavy", round_slope_s=STEP_S)
    bs = dict(name="bs", profile=server, batch_limit=16, link=link)
    return plain(folder, bss=[bs], images_per_request={images: 1.0}, decision=dict(step_grid=[1]), **fields)


def offloaded(scenario):
    """The outcomes of an episode whose tasks all go to the BS."""
    simulator = Simulator(scenario, 1, records=records_needed(scenario))
    play(simulator, [3], lambda simulator: np.full(1, simulator.action_space.encode(1, 0, 0)))
    return simulator.outcomes()


def test_a_lone_transfer_takes_its_bits_at_the_measured_rates_and_the_round_trip(tmp_path):
    outcomes = offloaded(linked(tmp_path, arrivals=dict(kind="poisson", rate_hz=0.01), horizon_s=3000.0))
    expected = ROUND_TRIP_S + BITS_IN / UP_BPS + BITS_OUT / DOWN_BPS
    assert len(outcomes) > 10
    assert outcomes["delay_s"] == pytest.approx(expected, rel=1e-4)


def test_transfers_share_the_rate_but_not_the_round_trip(tmp_path):
    scenario = linked(tmp_path, 4, arrivals=dict(kind="poisson", rate_hz=0.002), horizon_s=4000.0)
    expected = ROUND_TRIP_S + 4 * BITS_IN / UP_BPS + 4 * BITS_OUT / DOWN_BPS
    assert offloaded(scenario)["delay_s"] == pytest.approx(expected, rel=1e-4)


def test_the_ue_expects_the_time_that_a_transfer_takes(tmp_path):
    scenario = linked(tmp_path)
    simulator = Simulator(scenario, 1)
    simulator.reset(np.array([1]))
    _, candidates, _ = simulator.layout.split(simulator.observations[0])
    assert candidates[1, 2] == pytest.approx(ROUND_TRIP_S / 2 + BITS_IN / UP_BPS)
    assert candidates[1, 3] == pytest.approx(ROUND_TRIP_S / 2 + BITS_OUT / DOWN_BPS)


def test_the_testbed_emulates_the_measured_rates(tmp_path):
    params = Simulator(linked(tmp_path), 1).params
    episode = Episode(linked(tmp_path), 1, 1.0, params, (), (), (), np.zeros((1, 1)))
    assert episode.uplink(0)(0, 2) == UP_BPS / 2 and episode.downlink(0)(0, 4) == DOWN_BPS / 4


@pytest.mark.parametrize("radio", [dict(interference=True), dict(downlink=False)], ids=str)
def test_a_link_has_no_part_in_radio_cells(tmp_path, radio):
    with pytest.raises(ValidationError, match="bs has a link"):
        linked(tmp_path, radio=radio)


def test_scenarios_without_a_link_keep_their_hash():
    assert fields_hash(load_scenario("campus")) == "7aa8097d1b644d55"
    assert "link" not in load_scenario("campus").bss[0].model_dump()
