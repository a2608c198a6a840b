"""The compiled simulator and the SimPy oracle tell the same story of every task."""

import csv
from datetime import datetime, timedelta
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgebrush.scenario.expand import expand_bss, expand_ues
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.channel import gain_of_block
from edgebrush.sim.compile import compiled
from edgebrush.sim.simulator import Simulator, compiled_parameters, episode_world, records_needed
from tests.reference.model import Task, run
from tests.support.worlds import deciding, write_profile


@compiled(entry=True)
def block_gain(params, worlds, ue, bs, block):
    return gain_of_block(compiled_parameters(params), episode_world(worlds, 0), ue, bs, block)


NUMBERS = (
    "arrival_s",
    "end_s",
    "delay_s",
    "energy_ue_j",
    "energy_bs_j",
    "quality",
    "delay_cost",
    "energy_cost",
    "quality_cost",
    "penalty_cost",
    "cost",
)
FACTS = "steps", "service_class", "refused", "missed", "dropped", "lost"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with odd profiles and a trace in which several users often ask in the same second."""
    folder = tmp_path_factory.mktemp("world")
    write_profile(folder, "slow-phone", "light", encode_s=0.31, decode_s=0.17, round_slope_s=0.413, fixed_j=1.3)
    write_profile(
        folder,
        "odd-server",
        "heavy",
        encode_s=0.23,
        decode_s=0.37,
        round_intercept_s=0.19,
        round_slope_s=0.071,
        fixed_j=7.0,
        round_intercept_j=11.0,
        round_slope_j=3.0,
        ceiling=1.0,
        half_steps=5.0,
        sharpness=2.0,
    )
    draw = np.random.default_rng(1)
    start = datetime(2024, 11, 15)
    with open(folder / "trace.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("gmt_create", "groupId", "num_images_per_prompt"))
        for second in np.sort(draw.integers(60, size=50)):
            user, images = f"user {draw.integers(7)}", draw.choice([1, 1, 2, 4])
            rows.writerow((start + timedelta(seconds=int(second)), user, images))
    return folder


def some(low, high):
    return st.floats(low, high, allow_nan=False)


@st.composite
def shares(draw, count):
    """So many positive numbers that sum to 1."""
    parts = [draw(st.integers(1, 9)) for _ in range(count)]
    return [part / sum(parts) for part in parts]


@st.composite
def named(draw, low, high, **fields):
    """A list of entries with names of their own and fields drawn each by itself."""
    count = draw(st.integers(low, high))
    return [{"name": f"n{n}", **{key: draw(field) for key, field in fields.items()}} for n in range(count)]


@st.composite
def scenarios(draw):
    """Small worlds of all kinds, with limits so low that every refusal occurs; as fields of a Scenario."""
    requests = draw(
        named(
            1,
            3,
            delay_weight=some(0, 2),
            energy_weight=some(0, 2),
            quality_weight=some(0, 2),
            bits_in=some(1e3, 4e6),
            bits_out=some(1e3, 4e6),
            deadline_s=st.none() | some(0.3, 12),
        )
    )
    contents = draw(named(1, 2, difficulty=some(0.2, 3)))
    for entries in (requests, contents):
        for entry, share in zip(entries, draw(shares(len(entries))), strict=True):
            entry["share"] = share
    levels = st.tuples(some(0.01, 1), some(0.01, 1)).map(sorted)
    links = st.fixed_dictionaries(
        dict(up_bps=some(1e5, 1e7), down_bps=some(1e5, 1e7), round_trip_s=st.just(0.0) | some(0.0, 3.0))
    )
    light = st.sampled_from(["slow-phone.json", "sd15-snapdragon-8-elite", "sd21-iphone-14-pro-max"])
    heavy = st.sampled_from(["odd-server.json", "odd-server.json", "sdxl-a100", "sd35-medium-h100"])
    ues = draw(
        named(
            1,
            2,
            count=st.integers(1, 3),
            profile=light,
            speed=some(0.5, 3),
            rate_factor=some(0.5, 2),
            queue_limit=st.integers(0, 3),
            battery_j=st.sampled_from([20.0, 300.0, 5e4]),
            battery_level=levels,
            battery_care=some(0, 2),
            radiated_w=some(0.05, 0.3),
            transmit_w=some(0, 3),
            receive_w=some(0, 2),
            standby_w=some(0, 0.5),
        )
    )
    bss = draw(
        named(
            1,
            2,
            count=st.integers(1, 2),
            profile=heavy,
            speed=some(0.5, 3),
            batch_limit=st.integers(1, 3),
            queue_limit=st.integers(0, 3),
            connection_limit=st.integers(3, 7),
            bandwidth_hz=some(1e6, 1e7),
            power_w=some(1, 10),
            link=st.none() | st.none() | links,
        )
    )
    linked = any(bs["link"] for bs in bss)
    arrivals = draw(
        st.fixed_dictionaries(dict(kind=st.just("poisson"), rate_hz=some(0.2, 1.0)))
        | st.fixed_dictionaries(
            dict(
                kind=st.just("bursty"),
                rate_hz=some(0.2, 0.8),
                calm=some(0, 0.5),
                burst=some(1, 3),
                calm_s=some(1, 10),
                burst_s=some(1, 10),
                shared=st.booleans(),
            )
        )
        | st.fixed_dictionaries(dict(kind=st.just("trace"), file=st.just("trace.csv"), rate_hz=some(0.2, 0.5)))
    )
    local = draw(st.booleans())
    images = {}
    if arrivals["kind"] != "trace":
        images = draw(st.sampled_from([{1: 1.0}, {1: 0.5, 3: 0.5}, {2: 1.0}]))
    return dict(
        name="drawn",
        title="drawn",
        horizon_s=draw(some(5, 20)),
        area_m=draw(st.tuples(some(20, 400), some(20, 400))),
        decision=dict(
            step_grid=draw(st.sampled_from([[1, 2, 5], [3], [1, 4, 9, 17]])),
            classes=draw(st.integers(1, 3)),
            local=local,
            neighbours=draw(st.integers(0 if local else 1, 4)),
            interval_s=draw(st.sampled_from([0.0, 0.0, 0.37, 1.0])),
        ),
        cost=dict(bs_energy_weight=draw(st.sampled_from([0.0, 0.4])), missed=0.7, lost=2.1),
        radio=dict(
            path_loss=draw(st.sampled_from(["umi-street-canyon", "log-distance"])),
            wall_loss_db=draw(some(0, 15)),
            shadowing_db=draw(st.none() | some(0, 9)),
            shadowing_time_s=draw(some(1, 30)),
            fading=draw(st.sampled_from(["rayleigh", "none"])),
            coherence_s=draw(st.sampled_from([0.2, 1.0, 3.7])),
            interference=not linked and draw(st.booleans()),
            downlink=linked or draw(st.booleans()),
        ),
        mobility=dict(speed_mps=draw(st.sampled_from([0.0, 1.4, 20.0])), pause_s=draw(some(0, 5))),
        broadcast_interval_s=draw(st.sampled_from([0.0, 0.5, float("inf")])),
        arrivals=arrivals,
        requests=requests,
        contents=contents,
        ues=ues,
        bss=bss,
        **(dict(images_per_request=images) if images else {}),
    )


def play_both(scenario: Scenario, seed: int, choose: np.random.Generator):
    """One episode of random decisions in the simulator and in the oracle: (outcomes, outcomes), by task."""
    simulator = Simulator(scenario, 1, records=records_needed(scenario))
    simulator.reset(np.array([seed]))
    battery = simulator.params.ue["battery_j"]
    fresh = Simulator(scenario, 1)  # a second copy of the episode, to ask for gains from its start
    fresh.reset(np.array([seed]))
    levels = fresh.worlds.ue["battery_j"][0] / battery
    decisions = {}
    while simulator.alive[0]:
        ue, number, _ = deciding(simulator)
        choice = int(choose.integers(simulator.action_space.count))
        slot, step_index, service_class = simulator.action_space.decode(choice)
        place = 0 if slot == 0 else int(simulator.worlds.neighbour[0, ue, slot - 1]) + 1
        decisions[ue, number] = place, scenario.decision.step_grid[step_index], service_class
        simulator.step(np.array([choice]))
    outcomes = simulator.outcomes()
    episode = simulator.worlds.episode[0, 0]
    assert len(outcomes) == episode["arrived"] == episode["ended"]
    # The oracle takes tasks as they came; those of one instant came in the order in which they were decided.
    turn = {key: n for n, key in enumerate(decisions)}
    rows = sorted(outcomes, key=lambda row: (row["arrival_s"], turn.get((row["ue"], row["number"]), len(turn))))
    tasks = [Task(*(row[name].item() for name in Task.__annotations__)) for row in rows]

    @cache
    def gain(ue, bs, block):
        return block_gain(fresh.params, fresh.worlds, ue, bs, block)

    profiles = [[profile for _, profile in expand(scenario)] for expand in (expand_ues, expand_bss)]
    told = run(scenario, *profiles, tasks, lambda task: decisions[task.ue, task.number], gain, levels)
    return rows, told


def assert_same(rows, told):
    for row, outcome in zip(rows, told, strict=True):
        for name in FACTS:
            assert row[name] == getattr(outcome, name), name
        if outcome.steps > 0:  # a task that was lost before its decision was nowhere
            assert row["place"] == outcome.place
        for name in NUMBERS:
            assert row[name] == pytest.approx(getattr(outcome, name), rel=1e-9, abs=1e-12), name


COMPARED = dict(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
DRAWN = given(fields=scenarios(), seed=st.integers(0, 2**40), choices=st.integers(0, 2**32))


@settings(max_examples=120, **COMPARED)
@DRAWN
def test_every_task_ends_as_in_the_oracle(folder, fields, seed, choices):
    assert_same(*play_both(Scenario(**fields, directory=folder), seed, np.random.default_rng(choices)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=4000, **COMPARED)
@DRAWN
def test_every_task_ends_as_in_the_oracle_at_length(folder, fields, seed, choices):
    assert_same(*play_both(Scenario(**fields, directory=folder), seed, np.random.default_rng(choices)))
