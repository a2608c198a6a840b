"""`fit-scenario`: parameters of a known world come back from its journals; too few tasks and foreign journals."""

import asyncio
import sqlite3
from dataclasses import replace

import pytest
import yaml

from edgebrush.cli.main import run
from edgebrush.errors import UserError
from edgebrush.fitting.bursts import Bursts
from edgebrush.fitting.estimate import shares_of
from edgebrush.fitting.fit import fit
from edgebrush.fitting.records import RecordedTask, assign_journals, group, read_records
from edgebrush.profiles.catalogue import load_profile
from edgebrush.scenario.load import load_scenario
from tests.support.agents import LARGE, TESTBED, PreferSlots, make_task, running_agent
from tests.support.measured import MeasuredServer
from tests.support.recorded import RecordedWorld, draw_requests, without_fields, write_journal
from tests.support.virtual_time import run_virtual

BASE = """\
# My fleet.
name: fleet
title: a test
arrivals: {kind: poisson, rate_hz: 0.02}   # a guess
decision: {neighbours: 1}
requests:
  - {name: waiting, share: 0.5, delay_weight: 1, energy_weight: 1, quality_weight: 1, bits_in: 1.0e+3, bits_out: 1.0e+6}
  - {name: idle, share: 0.5, delay_weight: 1, energy_weight: 1, quality_weight: 1, bits_in: 1.0e+3, bits_out: 1.0e+6}
ues:
  - {name: few, count: 2, profile: sd15-snapdragon-8-elite}
  - {name: many, count: 2, profile: sd15-snapdragon-8-elite}   # keen ones
bss:
  - name: large   # the only one
    profile: sdxl-a100
    link: {up_bps: 2.0e+6, down_bps: 5.0e+6, round_trip_s: 0.03}
"""
KINDS, IMAGES = {"waiting": 0.3, "idle": 0.7}, {1: 0.8, 3: 0.2}
BURSTS = Bursts(calm=0.4, burst=2.8, calm_s=30.0, burst_s=10.0)
RATES_HZ = [0.02, 0.02, 0.06, 0.06]
SPAN_S = 40_000.0


def base(folder, text=BASE):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.yaml").write_text(text)
    return load_scenario(folder / "fleet.yaml")


def fitted(scenario, journals, needed=30):
    """The estimates by field."""
    records = read_records(assign_journals([str(each) for each in journals], scenario), scenario)
    return {".".join(map(str, each.path)): each for each in fit(scenario, records, needed)}


def journals_of(folder, seed=1, span_s=SPAN_S, rates_hz=RATES_HZ, **process):
    world = RecordedWorld(seed)
    return world, world.write(folder, draw_requests(world.random, span_s, rates_hz, KINDS, IMAGES, **process))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A known world with common bursts, its scenario before the fit, and its journals."""
    folder = tmp_path_factory.mktemp("known")
    world, journals = journals_of(folder, bursts=BURSTS)
    return world, base(folder), journals


@pytest.fixture(scope="module")
def known(recorded):
    """The known world, and the estimates from its journals."""
    world, scenario, journals = recorded
    return world, fitted(scenario, journals)


def test_arrivals_come_back_with_their_bursts(known):
    _, estimates = known
    after = estimates["arrivals"].after
    assert after["kind"] == "bursty" and after["shared"]
    assert after["rate_hz"] == pytest.approx(0.04, rel=0.08)
    assert after["calm"] == pytest.approx(BURSTS.calm, abs=0.15)
    assert after["burst"] == pytest.approx(BURSTS.burst, rel=0.25)
    assert after["calm_s"] == pytest.approx(BURSTS.calm_s, rel=0.35)
    assert after["burst_s"] == pytest.approx(BURSTS.burst_s, rel=0.35)
    assert estimates["ues.0.rate_factor"].after == pytest.approx(0.5, rel=0.08)
    assert estimates["ues.1.rate_factor"].after == pytest.approx(1.5, rel=0.04)


def test_requests_come_back(known):
    world, estimates = known
    assert estimates["requests.0.share"].after == pytest.approx(0.3, abs=0.02)
    assert estimates["requests.0.share"].after + estimates["requests.1.share"].after == pytest.approx(1.0)
    assert estimates["images_per_request"].after == pytest.approx(IMAGES, abs=0.02)
    assert estimates["requests.1.bits_in"].after == 8 * (200 + world.sent_bytes)
    assert estimates["requests.1.bits_out"].after == pytest.approx(8 * (200 + world.received_bytes), rel=1e-3)


def test_links_and_speeds_come_back(known):
    world, estimates = known
    link = estimates["bss.0.link"].after
    assert link == pytest.approx({"up_bps": 4e6, "down_bps": 1e7, "round_trip_s": 0.03}, rel=0.02)
    assert estimates["bss.0.speed"].after == pytest.approx(world.speed, rel=0.05)
    assert estimates["ues.0.speed"].after == pytest.approx(world.device_speed, rel=0.03)
    low, high = estimates["ues.1.speed"].interval
    assert low < estimates["ues.1.speed"].after < high < 1.1 * low


def test_a_busy_station_does_not_look_slow(tmp_path):
    """Batches of up to 4 share the rounds, which the journals of all UEs show."""
    world, journals = journals_of(tmp_path, span_s=4_000.0, rates_hz=[0.12] * 4)
    assert fitted(base(tmp_path), journals)["bss.0.speed"].after == pytest.approx(world.speed, rel=0.08)


def test_poisson_arrivals_stay_poisson(tmp_path):
    _, journals = journals_of(tmp_path)
    estimates = fitted(base(tmp_path), journals)
    assert estimates["arrivals.rate_hz"].after == pytest.approx(0.04, rel=0.06)
    bursty = BASE.replace("{kind: poisson, rate_hz: 0.02}", "{kind: bursty, rate_hz: 0.02}")
    after = fitted(base(tmp_path / "bursty", bursty), journals)["arrivals"].after
    assert after == {"kind": "poisson", "rate_hz": estimates["arrivals.rate_hz"].after}


def test_bursts_of_each_ue_alone_are_not_shared(tmp_path):
    _, journals = journals_of(tmp_path, bursts=BURSTS, shared=False, rates_hz=[0.05] * 4)
    after = fitted(base(tmp_path), journals)["arrivals"].after
    assert after["kind"] == "bursty" and not after["shared"]
    assert after["burst"] == pytest.approx(BURSTS.burst, rel=0.3)


def test_a_second_fit_changes_nothing(tmp_path, recorded):
    _, scenario, journals = recorded
    options = ["--scenario", str(scenario.directory / "fleet.yaml"), "--out", str(tmp_path / "fitted.yaml")]
    assert run(["fit-scenario", *map(str, journals), *options]) == 0
    estimates = fitted(load_scenario(tmp_path / "fitted.yaml"), journals)
    assert {name for name, each in estimates.items() if each.changed} == set()


def test_few_requests_change_the_rate_but_not_the_kind_of_arrivals(tmp_path):
    _, journals = journals_of(tmp_path, span_s=1_500.0)
    bursty = "{kind: bursty, rate_hz: 0.01, calm: 0.5, burst: 2.0, calm_s: 10, burst_s: 20}"
    scenario = base(tmp_path, BASE.replace("{kind: poisson, rate_hz: 0.02}", bursty))
    estimate = fitted(scenario, journals)["arrivals.rate_hz"]
    assert 30 < estimate.count < 300 and "kind left" in estimate.note
    assert 1.5 * estimate.after == pytest.approx(0.04, rel=0.2)  # the mean of the factors is 1.5
    assert estimate.interval[0] < estimate.after < estimate.interval[1]


def test_a_round_trip_that_is_most_of_the_transfer_is_fitted_itself(tmp_path):
    world = RecordedWorld(round_trip_s=0.9)
    journals = world.write(tmp_path, draw_requests(world.random, 2_000.0, RATES_HZ, KINDS, IMAGES))
    text = BASE.replace(
        "up_bps: 2.0e+6, down_bps: 5.0e+6, round_trip_s: 0.03", "up_bps: 4e+6, down_bps: 1e+7, round_trip_s: 0.6"
    )
    link = fitted(base(tmp_path, text), journals)["bss.0.link"].after
    assert link == pytest.approx({"up_bps": 4e6, "down_bps": 1e7, "round_trip_s": 0.9}, rel=0.02)


def test_a_trace_keeps_its_times_and_gets_the_rate_of_images(tmp_path):
    (tmp_path / "old").mkdir()
    rows = [f"2026-01-01 00:{minute:02d}:00,user-{minute % 7},1" for minute in range(60)]
    (tmp_path / "old" / "requests.csv").write_text("\n".join(["gmt_create,groupId,num_images_per_prompt", *rows]))
    text = BASE.replace("{kind: poisson, rate_hz: 0.02}", "{kind: trace, file: requests.csv, rate_hz: 0.02}")
    base(tmp_path / "old", text)
    _, journals = journals_of(tmp_path, span_s=4_000.0)
    options = ["--scenario", f"{tmp_path}/old/fleet.yaml", "--out", f"{tmp_path}/fitted.yaml"]
    assert run(["fit-scenario", *map(str, journals), *options]) == 0
    arrivals = load_scenario(tmp_path / "fitted.yaml").arrivals
    assert (arrivals.kind, str(arrivals.file)) == ("trace", "old/requests.csv")
    assert arrivals.rate_hz == pytest.approx(0.04 * 1.4, rel=0.15)


def test_few_tasks_leave_the_fields_as_they_were(tmp_path):
    _, journals = journals_of(tmp_path, span_s=150.0)
    estimates = fitted(base(tmp_path), journals)
    assert not any(each.changed for each in estimates.values())
    assert "of at least 30" in estimates["bss.0.speed"].note and "of at least 30" in estimates["arrivals.rate_hz"].note


def test_journals_of_older_agents_leave_links_and_sizes_as_they_were(tmp_path):
    _, journals = journals_of(tmp_path, span_s=2_000.0)
    for journal in journals:
        without_fields(journal, "travel_s", "server_s", "sent_bytes", "received_bytes")
    estimates = fitted(base(tmp_path), journals)
    assert estimates["bss.0.link"].after is None and "no travel times" in estimates["bss.0.link"].note
    assert estimates["requests.0.bits_in"].after is None
    assert estimates["bss.0.speed"].after == pytest.approx(1.6, rel=0.05)


def test_a_real_agents_journal_has_all_that_a_fit_needs(tmp_path):
    """Tasks of an agent on a virtual clock, at a station behind a link of known rates."""
    server = MeasuredServer(fixed_s=0.1, step_s=0.05, up_bps=2e6, down_bps=4e6, round_trip_s=0.02)

    async def run_tasks():
        async with running_agent(tmp_path / "ue-1", PreferSlots(LARGE), {"large": server}) as agent:
            for number in range(40):
                await agent.generate(make_task(f"a{number}-0", prompt="circle"))
                await asyncio.sleep(1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.fakes.FakeNetwork.respond", lambda network, request: server.respond(request))
        run_virtual(run_tasks())
    estimates = fitted(TESTBED, [tmp_path / "ue-1"])
    link, bits_in = estimates["bss.0.link"].after, estimates["requests.0.bits_in"].after
    bits_out = estimates["requests.0.bits_out"].after
    expected_s = 0.02 + bits_in / 2e6 + bits_out / 4e6
    assert bits_in / link["up_bps"] + bits_out / link["down_bps"] == pytest.approx(expected_s, rel=0.03)
    assert estimates["bss.0.speed"].count == 40


def test_a_request_for_several_images_counts_once():
    rows = [("a-0", 1.0), ("a-1", 1.0), ("a-0.2", 9.0), ("row-1", 2.0), ("row-2", 2.5), ("b", 3.0)]
    requests = group([recorded_task(name, at_s) for name, at_s in rows])
    assert sorted((request.at_s, request.images) for request in requests) == [
        (1.0, 2), (2.0, 1), (2.5, 1), (3.0, 1), (9.0, 1),
    ]  # fmt: skip


def recorded_task(name, at_s):
    return RecordedTask(0, name, at_s, at_s, "idle", True, "own", 4, 1, 1.0, 0.0, 0.0, 0, 0)


def test_shares_are_positive_and_sum_to_one():
    for counts in ([0, 7], [1, 1, 1], [10_000, 1, 0]):
        assert sum(shares_of(counts)) == pytest.approx(1.0, abs=1e-9) and min(shares_of(counts)) > 0


# -- the command


def test_the_file_keeps_its_comments_and_states_each_change(tmp_path, recorded, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, scenario, (*journals, last) = recorded
    options = ["--scenario", str(scenario.directory / "fleet.yaml"), "--out", "mine.yaml"]
    assert run(["fit-scenario", *map(str, journals), f"4={last}", *options]) == 0
    out = capsys.readouterr().out
    assert "bss.0.speed" in out and "fields changed: mine.yaml" in out
    text = (tmp_path / "mine.yaml").read_text()
    assert text.startswith("# My fleet.\nname: mine\n") and "name: large   # the only one" in text
    assert "records; speed was 1\n" in text
    assert "records; link was up_bps 2e+06, down_bps 5e+06, round_trip_s 0.03\n" in text
    assert load_scenario("mine.yaml").arrivals.kind == "bursty"
    content = yaml.safe_load(text)
    assert {name for name in content if content[name] != yaml.safe_load(BASE).get(name)} == {
        "name", "arrivals", "requests", "images_per_request", "ues", "bss",
    }  # fmt: skip


def test_files_beside_the_scenario_are_found_from_the_new_place(tmp_path):
    (tmp_path / "old").mkdir()
    profile = load_profile("sdxl-a100").model_copy(update={"name": "mine"})
    (tmp_path / "old" / "mine.json").write_text(profile.model_dump_json())
    base(tmp_path / "old", BASE.replace("sdxl-a100", "mine.json"))
    _, journals = journals_of(tmp_path, span_s=1000.0)
    out = tmp_path / "fitted.yaml"
    assert (
        run(["fit-scenario", *map(str, journals), "--scenario", f"{tmp_path}/old/fleet.yaml", "--out", str(out)]) == 0
    )
    assert load_scenario(out).bss[0].profile == "old/mine.json"


def test_a_window_of_time_counts_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    base(tmp_path)
    journals_of(tmp_path, span_s=7200.0)
    window = ["--from", "2026-09-21T15:00:00", "--to", "2026-09-21T15:30"]
    assert run(["fit-scenario", "ue-1", "ue-3", "--scenario", "fleet.yaml", *window]) == 0
    assert "of 2 UEs in 1,800 s" in capsys.readouterr().out


def foreign_database(folder):
    folder.mkdir()
    connection = sqlite3.connect(folder / "journal.sqlite")
    connection.execute("CREATE TABLE songs (name TEXT)")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()


def damaged_tasks(folder):
    world, task = RecordedWorld(), make_task("a-0", request="idle")
    write_journal(folder, [(task, 1.7e9 + n, world.own(task, 4)) for n in range(2)])
    connection = sqlite3.connect(folder / "journal.sqlite")
    connection.execute('UPDATE tasks SET result = \'{"delay_s": "long"}\'')
    connection.commit()
    connection.close()


def other_kinds(folder):
    task = make_task("a-0", request="urgent")
    write_journal(folder, [(task, 1.7e9, RecordedWorld().own(task, 4))])


def other_places(folder):
    task = make_task("a-0", request="idle")
    write_journal(folder, [(task, 1.7e9, replace(RecordedWorld().own(task, 4), place="huge"))])


def no_database(folder):
    folder.mkdir()
    (folder / "journal.sqlite").write_bytes(b"no database at all" * 100)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder.mkdir(), "there is no journal; give the folder of `edgebrush ue --journal`"),
        (lambda folder: write_journal(folder, []), "0 requests at different times; a fit needs at least 2"),
        (no_database, "cannot be read: file is not a database"),
        (foreign_database, "cannot be read: no such table: tasks"),
        (damaged_tasks, "its tasks cannot be read (ValueError: could not convert string to float: 'long')"),
        (other_kinds, "has requests of the kind 'urgent'; fleet has waiting, idle"),
        (other_places, "has images of 'huge'; the stations of fleet are large"),
    ],
)
def test_a_journal_that_cannot_be_used_is_a_clear_error(make, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    base(tmp_path)
    make(tmp_path / "ue-1")
    assert run(["fit-scenario", "ue-1", "--scenario", "fleet.yaml"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "fitted.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["logs"], "whose is it[?] Give N=FOLDER, or a folder called ue-N, for UE N"),
        (["ue-5"], "fleet has UEs 1 to 4"),
        (["ue-1", "1=other"], "there is another journal of UE 1"),
    ],
)
def test_a_journal_belongs_to_one_ue(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        assign_journals(arguments, base(tmp_path))
