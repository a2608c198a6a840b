"""What holds for every episode: rewards, common arrivals, full tables, staleness, who sees what."""

import numpy as np
import pytest

from edgebrush.decision.observation import AGE_S, DOWN_S, IN_FLIGHT, LOAD, NUMBER, PRESENT, QUEUED, TASK_FEATURES, UP_S
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.compile import compiled
from edgebrush.sim.simulator import Simulator, compiled_parameters, episode_world, records_needed
from edgebrush.sim.state import World
from edgebrush.sim.world import observe
from tests.support.worlds import at_random, deciding, plain, play

BURSTY = dict(kind="bursty", rate_hz=0.4, calm=0.0, burst=3.0, calm_s=5.0, burst_s=5.0)
PHONES = [dict(name="phone", count=5, profile="sd15-snapdragon-8-elite", queue_limit=2)]
SMALL_BSS = [dict(name="bs", count=2, profile="sdxl-a100", batch_limit=2, queue_limit=1, connection_limit=4)]
PATIENT = dict(name="any", share=1.0, delay_weight=0.5, energy_weight=0.5, quality_weight=1.0)
DEADLINE = [PATIENT | dict(bits_in=1e5, bits_out=1e6, deadline_s=8.0)]


@compiled(entry=True)
def write_observation(params, worlds, e, out):
    observe(compiled_parameters(params), episode_world(worlds, e), out)


def look(simulator, e):
    """Writes the observation of episode e anew."""
    write_observation(simulator.params, simulator.worlds, e, simulator.observations[e])


def busy(**fields):
    """Five UEs at two small BSs, with bursts, deadlines and requests for several images."""
    defaults = dict(
        arrivals=BURSTY,
        ues=PHONES,
        bss=SMALL_BSS,
        requests=DEADLINE,
        horizon_s=60.0,
        images_per_request={1: 0.5, 4: 0.5},
    )
    return plain(**(defaults | fields))


@pytest.mark.parametrize("interval_s", [0.0, 0.7])
def test_rewards_sum_to_minus_the_costs_of_all_tasks(interval_s):
    scenario = busy(decision=dict(interval_s=interval_s), cost=dict(bs_energy_weight=0.3))
    simulator = Simulator(scenario, 16, records=records_needed(scenario))
    simulator.reset(np.arange(16))
    before, seconds = simulator.rewards.copy(), simulator.gaps_s.copy()
    assert interval_s > 0 or not before.any()  # only where tasks wait for a slot does cost come before a decision
    choose, total = at_random(1), before
    while simulator.alive.any():
        simulator.step(choose(simulator))
        total += simulator.rewards
        seconds += simulator.gaps_s
    outcomes = simulator.outcomes()
    costs = np.bincount(outcomes["episode"], outcomes["cost"], minlength=16)
    assert total == pytest.approx(-costs, rel=1e-9)
    last = [outcomes["end_s"][outcomes["episode"] == e].max() for e in range(16)]
    assert seconds == pytest.approx(last, rel=1e-12)
    for fact in ("refused", "missed", "dropped", "lost"):
        assert outcomes[fact].any(), f"no task was {fact}"


def test_the_tables_hold_all_that_the_limits_admit_and_nothing_is_lost_from_sight():
    scenario = busy(arrivals=BURSTY | dict(rate_hz=30.0), horizon_s=15.0, images_per_request={16: 1.0})
    for interval_s in (0.0, 0.2):
        slotted = scenario.model_copy(
            update=dict(decision=scenario.decision.model_copy(update=dict(interval_s=interval_s)))
        )
        simulator = Simulator(slotted, 4, records=records_needed(slotted))
        play(simulator, range(4), at_random(2))
        episode = simulator.worlds.episode[:, 0]
        assert (episode["arrived"] > 5000).all()
        assert (episode["arrived"] == episode["ended"]).all() and not episode["in_system"].any()
        assert len(simulator.outcomes()) == episode["arrived"].sum()
        assert not simulator.worlds.bs["connections"].any() and not simulator.worlds.link["in_flight"].any()


def test_too_few_records_are_an_error_and_not_a_gap():
    simulator = Simulator(busy(), 1, records=3)
    play(simulator, [0], at_random(3))
    with pytest.raises(RuntimeError, match="only 3 can be recorded"):
        simulator.outcomes()


@pytest.mark.parametrize("interval_s", [0.0, 1.0])
def test_copies_decide_on_the_same_tasks_whatever_they_decide(interval_s):
    """Decision n is the same task at the same moment, with the same kind, content and gains."""
    walk, fade = dict(speed_mps=2.0), dict(fading="rayleigh")
    scenario = busy(decision=dict(interval_s=interval_s), mobility=walk, radio=fade)
    simulator = Simulator(scenario, 4, records=records_needed(scenario))
    simulator.reset(np.full(4, 11))
    choose, layout, decisions = at_random(4), simulator.layout, 0
    while simulator.alive.any():
        assert simulator.alive.all()
        first, *others = (deciding(simulator, e) for e in range(4))
        assert all(other == first for other in others)
        task, candidates, _ = layout.split(simulator.observations)
        assert (task[:, :7] == task[0, :7]).all()
        links = candidates[..., [NUMBER, UP_S, DOWN_S]]
        assert (links == links[0]).all()
        simulator.step(choose(simulator))
        decisions += 1
    assert decisions > 50
    assert len(set(np.bincount(simulator.outcomes()["episode"]))) == 1
    assert len({float(cost) for cost in simulator.worlds.episode["cost"][:, 0]}) == 4  # they did decide differently


@pytest.mark.parametrize("preset", ["campus"])
def test_the_same_seed_gives_the_same_numbers_on_one_thread_and_on_two(preset):
    told = []
    for threads in (1, 2, 2):
        scenario = load_scenario(preset)
        simulator = Simulator(scenario, 7, records=records_needed(scenario), states=True, threads=threads)
        totals = play(simulator, range(7), at_random(5), horizon_s=60.0)
        told.append((totals.tobytes(), simulator.observations.tobytes(), simulator.outcomes().tobytes()))
    assert told[0] == told[1] == told[2]


def test_resetting_some_episodes_leaves_the_others_alone():
    simulator = Simulator(busy(), 3)
    simulator.reset(np.arange(3))
    for _ in range(10):
        simulator.step(np.zeros(3))
    times = simulator.worlds.episode["time"][:, 0].copy()
    observations = simulator.observations.copy()
    simulator.reset(np.array([7, 1, 8]), which=np.array([False, True, False]))
    assert (simulator.worlds.episode["time"][:, 0][[0, 2]] == times[[0, 2]]).all()
    assert (simulator.observations[[0, 2]] == observations[[0, 2]]).all()
    assert simulator.worlds.episode["decisions"][:, 0].tolist() == [10, 0, 10]


def test_what_does_not_fit_is_an_error():
    simulator = Simulator(busy(), 1)
    simulator.step(np.zeros(1))  # before the first reset nothing happens
    assert not simulator.alive[0]
    simulator.reset(np.zeros(1))
    with pytest.raises(ValueError, match="one for each of 1 episodes"):
        simulator.step(np.zeros(2))
    with pytest.raises(ValueError, match="must hold 1 entries"):
        simulator.reset(np.zeros(2))
    for choice in (-1, simulator.action_space.count):
        with pytest.raises(ValueError, match="outside"):
            simulator.step(np.array([choice]))


def observed(broadcast_interval_s, choices=60, **fields):
    """Candidates seen at each decision of an episode whose tasks all go to the BSs, and the moments."""
    scenario = busy(broadcast_interval_s=broadcast_interval_s, **fields)
    simulator = Simulator(scenario, 1)
    simulator.reset(np.array([3]))
    draw, seen, moments = np.random.default_rng(6), [], []
    per_slot = simulator.action_space.per_slot
    while simulator.alive[0] and len(seen) < choices:
        seen.append(simulator.layout.split(simulator.observations[0])[1].copy())
        moments.append(deciding(simulator)[2])
        simulator.step(np.array([draw.integers(per_slot, simulator.action_space.count)]))
    return np.array(seen), np.array(moments)


def test_broadcasts_are_as_old_as_they_say():
    fresh, times = observed(0.0)
    assert (fresh[:, 1:, AGE_S] == 0.0).all() and fresh[:, 1:, LOAD].any()
    stale, times = observed(2.5, choices=300)
    assert stale[:, 1, AGE_S] == pytest.approx(times % 2.5, rel=1e-5)
    for period in np.unique(times // 2.5):
        assert len(np.unique(stale[times // 2.5 == period][:, 1:, LOAD], axis=0)) == 1
    assert len(np.unique(stale[:, 1:, LOAD], axis=0)) > 2
    never, times = observed(np.inf)
    assert not never[:, 1:, [LOAD, QUEUED]].any() and (never[:, 1:, PRESENT] == 1.0).all()
    assert never[:, 1, AGE_S] == pytest.approx(times, rel=1e-6)
    assert never[:, 1:, IN_FLIGHT].any()  # what the UE itself has under way there it knows without a broadcast


def test_a_slot_shows_what_was_known_at_its_start():
    """With fresh broadcasts, two decisions of one slot see the same BSs although the first changes them."""
    seen, times = observed(0.0, decision=dict(interval_s=2.0), arrivals=dict(kind="poisson", rate_hz=1.0))
    together = [np.flatnonzero(times == moment) for moment in np.unique(times)]
    assert max(len(rows) for rows in together) > 2
    for rows in together:
        assert len(np.unique(seen[rows][:, 1:, [LOAD, QUEUED]].reshape(len(rows), -1), axis=0)) == 1


def test_an_observation_holds_nothing_of_another_ue_and_nothing_since_the_last_broadcast():
    """Two copies see the same although the others' queues, batteries and places, and the BSs, differ."""
    scenario = busy(broadcast_interval_s=5.0, arrivals=dict(kind="poisson", rate_hz=1.0), mobility=dict(speed_mps=1.0))
    simulator = Simulator(scenario, 2)
    simulator.reset(np.full(2, 9))
    choose = at_random(7)
    for _ in range(40):
        simulator.step(np.repeat(choose(simulator)[:1], 2))
    asking = deciding(simulator)[0]
    other = World(*(field[1] for field in simulator.worlds))
    for i in range(scenario.ue_count):
        if i != asking:
            other.ue["waiting"][i] += 1
            other.ue["battery_j"][i] *= 0.5
            other.ue["x"][i] += 10.0
            other.ue["work_s"][i] += 3.0
            other.link["in_flight"][i] += 1
    other.bs["queued"] += 1
    other.bs["waiting"] += 1
    other.bs["waiting_steps"] += 10
    other.bs["steps_left"] += 10
    look(simulator, 1)
    assert (simulator.observations[1] == simulator.observations[0]).all()
    assert simulator.observations[0, TASK_FEATURES:].any()
    other.ue["work_s"][asking] += 3.0  # and the comparison would notice
    look(simulator, 1)
    assert (simulator.observations[1] != simulator.observations[0]).any()


def test_the_expected_cost_of_a_lone_task_is_what_it_comes_to():
    """Every choice for the same first task, with nobody else about and channels that stay as they are."""
    scenario = busy(
        arrivals=dict(kind="poisson", rate_hz=1e-4),
        images_per_request={1: 1.0},
        horizon_s=3e4,
        radio=dict(fading="none", shadowing_db=0.0),
        cost=dict(bs_energy_weight=0.3),
        requests=[PATIENT | dict(bits_in=1e6, bits_out=4e6, deadline_s=4.0)],
        ues=[PHONES[0] | dict(battery_care=1.5)],
    )
    choices = np.arange(Simulator(scenario, 1).action_space.count)
    simulator = Simulator(scenario, len(choices), records=records_needed(scenario))
    simulator.reset(np.full(len(choices), 2))
    expected = simulator.layout.split(simulator.observations[0])[2].flatten()
    first = deciding(simulator)
    while simulator.alive.any():
        simulator.step(choices)
    outcomes = simulator.outcomes()
    outcomes = outcomes[(outcomes["ue"] == first[0]) & (outcomes["number"] == first[1])]
    assert outcomes["missed"].any() and not outcomes["missed"].all()
    assert outcomes["cost"] == pytest.approx(expected, rel=1e-5)
