"""The presets: what their names promise, loads alike, and the offered load by hand."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from edgebrush.fitting.bursts import fit_bursts
from edgebrush.profiles.catalogue import load_profile
from edgebrush.scenario.capacity import bs_capacity_hz, offered_load
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.presets import PRESETS, preset_names
from edgebrush.scenario.trace import read_trace

ROOT = Path(__file__).parents[2]
GENTD26 = ROOT.parent / "shared" / "data" / "gentd26" / "requests.csv"
fit_arrivals = runpy.run_path(str(ROOT / "tools" / "fit_arrivals.py"))


def test_presets_and_their_sizes():
    sizes = {name: (load_scenario(name).ue_count, load_scenario(name).bs_count) for name in preset_names()}
    assert sizes == {
        "campus": (20, 3),
        "campus-gentd26": (20, 3),
        "city": (1000, 50),
        "dense": (200, 20),
        "pair": (4, 2),
        "testbed": (6, 2),
    }
    assert preset_names()[0] == "campus"


@pytest.mark.parametrize("name", preset_names())
def test_preset_is_named_as_its_file_and_says_what_it_is(name):
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.title and len(scenario.description) > 40
    assert (PRESETS / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("name", ["dense", "city", "pair", "campus-gentd26"])
def test_other_presets_are_loaded_as_campus_is(name):
    assert offered_load(load_scenario(name)) == pytest.approx(offered_load(load_scenario("campus")), rel=0.03)


@pytest.mark.parametrize("name", ["dense", "city"])
def test_larger_presets_have_campus_density_of_bss(name):
    larger, campus = load_scenario(name), load_scenario("campus")
    assert np.prod(larger.area_m) / larger.bs_count == pytest.approx(np.prod(campus.area_m) / campus.bs_count, rel=0.01)


def test_gentd26_is_campus_but_for_its_arrivals():
    campus, fitted = load_scenario("campus").model_dump(), load_scenario("campus-gentd26").model_dump()
    assert {field for field in campus if campus[field] != fitted[field]} == {
        "name",
        "title",
        "description",
        "arrivals",
        "images_per_request",
    }


def test_capacity_by_hand():
    """Two BSs at half speed with full batches of 4: a round per step, of which each task bears a quarter."""
    campus = load_scenario("campus")
    compute = load_profile("sdxl-a100").compute
    bs = campus.bss[0].model_copy(update=dict(count=2, speed=0.5, batch_limit=4, profile="sdxl-a100"))
    seconds = 0.0158 + 0.1422 + 15 * (0.00913 + 0.10191 * 4) / 4
    assert compute.encode_s + compute.decode_s == pytest.approx(0.158)
    assert bs_capacity_hz(campus.model_copy(update=dict(bss=(bs,)))) == pytest.approx(2 * 0.5 / seconds)
    assert bs_capacity_hz(campus.model_copy(update=dict(bss=(bs,))), steps=30) < 0.6 * 2 * 0.5 / seconds


@pytest.mark.skipif(not GENTD26.is_file(), reason="the trace is not next to the repository")
def test_gentd26_has_the_numbers_that_its_script_finds():
    scenario, trace = load_scenario("campus-gentd26"), read_trace(GENTD26)
    time_s = fit_arrivals["scaled"](trace, scenario.task_rate_hz)
    bursts = fit_bursts([time_s], time_s[-1])
    arrivals = scenario.arrivals
    stored = (arrivals.calm, arrivals.burst, arrivals.calm_s, arrivals.burst_s)
    assert stored == pytest.approx(tuple(bursts), rel=0.02)
    assert scenario.images_per_request == fit_arrivals["image_shares"](trace)
    assert arrivals.rate_hz * scenario.ue_count == pytest.approx(len(time_s) / time_s[-1], rel=0.01)


def test_operational_time_takes_the_daily_cycle_away():
    """Requests that come only in the first eight hours of a day, evenly, come evenly on the new clock."""
    rng = np.random.default_rng(3)
    hours = 24 * np.arange(10)[:, None] + np.sort(rng.uniform(0, 8, (10, 2000)), axis=1)
    time = fit_arrivals["operational_time"](hours.ravel() * 3600.0)
    counts = np.histogram(time, np.linspace(0, time[-1], 81))[0]
    assert counts.sum() == 20_000
    assert counts.var() / counts.mean() < 1.5
