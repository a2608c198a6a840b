"""`init`: what it measures at servers of known speed behind links of known rates, and the scenario that it writes."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import yaml

from edgebrush.cli.main import run
from edgebrush.errors import UserError
from edgebrush.fitting.fleet import describe_fleet
from edgebrush.fitting.nearest_profile import alone_s
from edgebrush.fitting.servers import Measurement, measure_servers, named_urls
from edgebrush.fitting.stations import image_sizes_px
from edgebrush.profiles.catalogue import load_profile
from edgebrush.scenario.capacity import offered_load
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.simulator import Simulator, records_needed
from tests.support.measured import MeasuredNetwork, MeasuredServer
from tests.support.processes import edgebrush_process
from tests.support.virtual_time import run_virtual
from tests.support.worlds import play


def measured(steps=(4, 12), **servers):
    """What `init` finds out about servers."""

    async def measure():
        clock = asyncio.get_running_loop().time
        measurement = Measurement("a cat", steps, transport=MeasuredNetwork(servers), clock=clock)
        urls = {name: f"http://{name}" for name in servers}
        return await measure_servers(urls, image_sizes_px(urls, {}, None), measurement)

    return run_virtual(measure())


def fleet_of(tmp_path, servers, **options):
    given = dict(name="fleet", directory=tmp_path, profiles={}, device=None, ues=4)
    return describe_fleet(servers, **given | options)


def scenario_of(tmp_path, text):
    (tmp_path / "fleet.yaml").write_text(text)
    return load_scenario(tmp_path / "fleet.yaml")


@pytest.mark.parametrize("kind", ["edgebrush", "vllm-omni"])
def test_link_and_service_times_are_those_of_the_server(kind):
    server = MeasuredServer(kind, side=512)
    (found,) = measured(large=server)
    assert found.link.round_trip_s == pytest.approx(server.round_trip_s, rel=0.02)
    assert found.link.up_bps == pytest.approx(server.up_bps, rel=0.02)
    assert found.link.down_bps == pytest.approx(server.down_bps, rel=0.02) and found.link.down_measured
    assert found.service_s == pytest.approx({4: 0.4, 12: 0.8}, rel=0.02)
    assert (found.model, found.image_px, found.check.steps_honoured) == ("some-model", 512, True)
    assert found.endpoint.kind == kind
    assert server.images == 3


def test_an_image_that_is_too_small_leaves_the_downlink_as_fast_as_the_uplink():
    (found,) = measured(large=MeasuredServer("vllm-omni", side=8, down_bps=1e9))
    assert not found.link.down_measured and found.link.down_bps == found.link.up_bps


def test_a_server_that_ignores_steps_is_noticed(tmp_path):
    ignoring = MeasuredServer("vllm-omni")
    ignoring.honours_steps = False
    found = measured(ignoring=ignoring)
    assert found[0].check.steps_honoured is False
    fleet = fleet_of(tmp_path, found)
    assert "THE SERVER IGNORES STEPS" in fleet.text
    assert any("ignoring: " in line and "IGNORES" in line for line in fleet.assumptions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(status=500), "large at http://large: no image: status 500: no image today"),
        (dict(refuses=False), "large at http://large: it accepts a request without a prompt"),
        (dict(locked=True), "large at http://large: status 401 to its load request; give its token by --station-token"),
        (dict(fixed_s=500.0), "large at http://large: no image: no answer in time"),
    ],
)
def test_a_server_without_images_is_a_clear_error(changes, message):
    server = MeasuredServer()
    for name, value in changes.items():
        setattr(server, name, value)
    with pytest.raises(UserError, match=message):
        measured(large=server)


def test_a_server_that_does_not_run_is_named():
    with pytest.raises(UserError, match=r"small at http://small: connection refused; check that it runs"):
        nobody = Measurement("a cat", (4, 12), transport=MeasuredNetwork({}))
        run_virtual(measure_servers({"small": "http://small"}, {"small": 512}, nobody))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["10.0.0.5:8000"], "give http://HOST:PORT or NAME=http://HOST:PORT"),
        (["a=http://x", "a=http://y"], "another station called a"),
        (["a=http://x:y"], "give http://HOST:PORT"),
    ],
)
def test_an_address_that_is_none_is_an_error(arguments, message):
    with pytest.raises(UserError, match=message):
        named_urls(arguments)


def test_stations_without_a_name_are_numbered():
    assert named_urls(["http://x/v1", "b=http://y/"]) == {"station-1": "http://x", "b": "http://y"}


SERVERS = (
    MeasuredServer(side=512),
    MeasuredServer("vllm-omni", fixed_s=0.5, step_s=0.2, up_bps=2e6, down_bps=5e6, side=1024),
)


@pytest.fixture(scope="module")
def two_servers():
    return measured(large=SERVERS[0], small=SERVERS[1])


def test_the_file_is_a_valid_scenario_with_what_was_measured(tmp_path, two_servers):
    fleet = fleet_of(tmp_path, two_servers, ues=6)
    scenario = scenario_of(tmp_path, fleet.text)
    large, small = scenario.bss
    assert (large.batch_limit, large.queue_limit, large.connection_limit) == (4, 32, 64)
    assert large.link.up_bps == pytest.approx(8e6, rel=0.02) and small.link.down_bps == pytest.approx(5e6, rel=0.02)
    assert large.endpoint.base_url == "http://large/v1" and small.endpoint.kind == "vllm-omni"
    assert scenario.ue_count == 6 and scenario.decision.neighbours == 2
    assert offered_load(scenario) == pytest.approx(1.0, rel=0.06)
    for field in ("arrivals", "requests", "ues", "cost", "small: batch_limit 4"):
        assert any(line.startswith(field) for line in fleet.assumptions), field


def test_the_profile_is_the_nearest_of_the_images_size_and_scaled_to_the_measured_times(tmp_path, two_servers):
    large, small = scenario_of(tmp_path, fleet_of(tmp_path, two_servers).text).bss
    for bs, side, expected in ((large, 512, {4: 0.4, 12: 0.8}), (small, 1024, {4: 1.3, 12: 2.9})):
        profile = load_profile(bs.profile)
        compute = profile.compute
        assert profile.resolution_px == side
        for steps, seconds in expected.items():
            own = compute.encode_s + compute.decode_s + steps * (compute.round_intercept_s + compute.round_slope_s)
            assert own / bs.speed == pytest.approx(seconds, rel=0.25)


@pytest.mark.parametrize("bs", [0, 1])
def test_the_simulator_moves_images_as_fast_as_the_measured_links(tmp_path, two_servers, bs):
    content = yaml.safe_load(fleet_of(tmp_path, two_servers, ues=1).text)
    content |= {"horizon_s": 2e5, "arrivals": {"kind": "poisson", "rate_hz": 1e-4}}  # one task at a time
    scenario = scenario_of(tmp_path, yaml.safe_dump(content))
    simulator = Simulator(scenario, 1, records=records_needed(scenario))
    play(simulator, [1], lambda simulator: np.array([simulator.action_space.encode(bs + 1, 1, 0)]))
    fields, server = scenario.bss[bs], SERVERS[bs]
    service_s = alone_s(load_profile(fields.profile), scenario.decision.step_grid[1]) / fields.speed
    kind = scenario.requests[0]
    moved_s = server.round_trip_s + kind.bits_in / server.up_bps + kind.bits_out / server.down_bps
    outcomes = simulator.outcomes()
    assert len(outcomes) > 10
    assert np.median(outcomes["delay_s"]) - service_s == pytest.approx(moved_s, rel=0.03)


def test_names_from_a_server_cannot_break_the_file(tmp_path):
    server = MeasuredServer()
    server.model = "evil\nbss: []\n# [red]" + 500 * "x"
    scenario = scenario_of(tmp_path, fleet_of(tmp_path, measured(large=server)).text)
    assert [bs.name for bs in scenario.bss] == ["large"]


def test_a_given_profile_is_used_relative_to_the_file(tmp_path, two_servers):
    mine = tmp_path / "profiles" / "mine.json"
    mine.parent.mkdir()
    mine.write_text(load_profile("sdxl-a100").model_copy(update={"name": "mine"}).model_dump_json())
    fleet = fleet_of(tmp_path, two_servers, profiles={"large": str(mine)}, device="sd15-snapdragon-8-gen-2")
    scenario = scenario_of(tmp_path, fleet.text)
    assert scenario.bss[0].profile == "profiles/mine.json"
    assert scenario.ues[0].profile == "sd15-snapdragon-8-gen-2"


def test_a_reader_is_told_what_is_assumed(tmp_path, two_servers):
    text = fleet_of(tmp_path, two_servers).text
    assert text.count("ssumed") >= 6 and max(map(len, text.splitlines())) < 200
    assert Scenario.model_validate(yaml.safe_load(text) | {"directory": Path()}).name == "fleet"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://x", "--out", "fleet.json"], "out = 'fleet.json': give a name that ends in .yaml or .yml"),
        (["http://x", "--out", "old.yaml"], "out = 'old.yaml': already exists; give another name, or --overwrite"),
        (["http://x", "--name", "My Fleet"], "name = 'My Fleet': must be lower-case letters"),
        (["http://x", "--steps", "4"], "steps = '4': give two step counts from 1 to 1000"),
        (["http://x", "--profile", "y=sdxl-a100"], "profile = y=sdxl-a100: the stations are station-1"),
        (["http://x", "--profile", "station-1=sd15-snapdragon-8-elite"], "is a light model's; give a heavy model's"),
        (["http://x", "--device", "sdxl-a100"], "is a heavy model's; give a light model's"),
        (["http://x", "--station-token-env", "NONE"], "station-token-env = 'NONE': no such key in the environment"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.yaml").write_text("old")
    assert run(["init", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert [path.name for path in tmp_path.iterdir()] == ["old.yaml"]
    assert (tmp_path / "old.yaml").read_text() == "old"


@pytest.mark.process
def test_a_real_station_is_measured_and_the_agent_runs_on_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with edgebrush_process("serve", "--port", "0", "--speed", "0.05", "--batch-limit", "2") as (_, url):
        assert run(["init", f"large={url}", "--ues", "3", "--steps", "2,10"]) == 0
        assert "Assumed, not measured" in capsys.readouterr().out
        (tmp_path / "tasks.csv").write_text("at_s,prompt,request,seed\n0,sneaker,waiting,1\n")
        assert run(["ue", "fleet.yaml", "--policy", "selfish-greedy", "--tasks", "tasks.csv", "--journal", "j"]) == 0
        assert "1 images, 0 errors" in capsys.readouterr().out
    (bs,) = load_scenario("fleet.yaml").bss
    assert (bs.name, bs.profile, bs.batch_limit) == ("large", "fashion-heavy-cpu", 2)
    assert bs.speed == pytest.approx(0.05, rel=0.3)
