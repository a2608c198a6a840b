"""The oracle against little cases that are worked out by hand.

The figures are chosen for the hand: noise of 1 W/Hz and a band of 8 Hz, so that a transfer alone, at gain 24
and 1 W, has 8·log2(1 + 24/8) = 16 bit/s and two uplinks at once have SHARED = 4·log2(1 + 24/4) bit/s each;
two downlinks, which share the power too, have 4·log2(1 + 12/4) = 8 bit/s each.

Own device, k steps: 1 + k·0.5 + 0.5 s and 2 + k·1 J. BS, a round of b tasks: 1 + 0.1·b s and 6 + 2·b J, with
0.2 s for each task that enters and 0.3 s for each in its last step, and 5 J in a task's last round.
"""

import math
import random
from types import SimpleNamespace

import pytest
import simpy

from edgebrush.scenario.schema import Scenario
from tests.reference.model import Task, run, until

PHONE = SimpleNamespace(
    compute=SimpleNamespace(encode_s=1.0, round_intercept_s=0.4, round_slope_s=0.1, decode_s=0.5),
    energy=SimpleNamespace(fixed_j=2.0, round_intercept_j=0.75, round_slope_j=0.25),
    quality=SimpleNamespace(ceiling=0.8, half_steps=2.0, sharpness=1.0),
)
SERVER = SimpleNamespace(
    compute=SimpleNamespace(encode_s=0.2, round_intercept_s=1.0, round_slope_s=0.1, decode_s=0.3),
    energy=SimpleNamespace(fixed_j=5.0, round_intercept_j=6.0, round_slope_j=2.0),
    quality=SimpleNamespace(ceiling=1.0, half_steps=3.0, sharpness=2.0),
)
SHARED = 4 * math.log2(7)

UE = dict(name="phone", count=2, profile="p", radiated_w=1.0, transmit_w=2.3, receive_w=1.0, standby_w=0.1)
BS = dict(name="bs", profile="b", bandwidth_hz=8.0, power_w=1.0)
REQUEST = dict(
    name="r", share=1.0, delay_weight=1.0, energy_weight=2.0, quality_weight=3.0, bits_in=32.0, bits_out=16.0
)
RADIO = dict(noise_dbm_per_hz=30.0, noise_figure_db=0.0, coherence_s=1000.0)


def scenario(ue=(), bs=(), request=(), radio=(), **rest):
    """The scenario above, with what differs in a case."""
    fields = dict(
        name="little",
        title="a little case",
        arrivals=dict(kind="poisson", rate_hz=1.0),
        requests=[{**REQUEST, **dict(request)}],
        ues=[{**UE, **dict(ue)}],
        bss=[{**BS, **dict(bs)}],
        radio={**RADIO, **dict(radio)},
    )
    return Scenario(**{**fields, **rest})


def play(world, *plan, gain=lambda ue, bs, block: 24.0, level=1.0):
    """Runs a plan: for each task (UE, arrival, place, steps[, class[, request[, content]]])."""
    numbers = [0] * world.ue_count
    tasks, decisions = [], {}
    for ue, arrival, place, steps, *more in plan:
        service_class, request, content = (*more, 0, 0, 0)[: len(more)] + (0, 0, 0)[len(more) :]
        tasks.append(Task(ue, numbers[ue], arrival, request, content))
        decisions[ue, numbers[ue]] = (place, steps, service_class)
        numbers[ue] += 1
    return run(
        world,
        [PHONE] * world.ue_count,
        [SERVER] * world.bs_count,
        tasks,
        lambda task: decisions[task.ue, task.number],
        gain,
        [level] * world.ue_count,
    )


def exactly(expected):
    return pytest.approx(expected, rel=1e-12, abs=1e-12)


def ends(outcomes):
    return [outcome.end_s for outcome in outcomes]


# Own device


def test_own_device_and_every_term_of_the_cost():
    (a,) = play(scenario(ue=dict(battery_care=1.0)), (0, 1.0, 0, 4), level=0.5)
    assert a.end_s == exactly(4.5)
    assert a.delay_s == exactly(3.5)
    assert (a.energy_ue_j, a.energy_bs_j) == (exactly(6.0), 0.0)
    assert a.quality == exactly(0.8 / 1.5)
    assert a.delay_cost == exactly(3.5 / 5)
    assert a.energy_cost == exactly(2 * 1.5 * 6 / 10)
    assert a.quality_cost == exactly(3 - 2.4 / 1.5)
    assert a.penalty_cost == 0.0
    assert a.cost == exactly(0.7 + 1.8 + 1.4)
    assert (a.place, a.steps, a.service_class) == (0, 4, 0)
    assert not (a.refused or a.missed or a.dropped or a.lost)


def test_own_device_serves_by_class_then_entry_and_loses_what_finds_it_full():
    plan = (0, 0.0, 0, 2, 1), (0, 0.1, 0, 2, 1), (0, 0.2, 0, 2, 0), (0, 0.3, 0, 2, 0), (0, 2.6, 0, 2, 1)
    a, b, c, d, e = play(scenario(ue=dict(queue_limit=2)), *plan)
    assert ends((a, c, b, e)) == exactly([2.5, 5.0, 7.5, 10.0])
    assert d.lost and not d.missed
    assert (d.end_s, d.place, d.quality, d.energy_ue_j) == (exactly(0.3), 0, 0.0, 0.0)
    assert d.cost == exactly(3 + 3)


def test_the_first_of_two_tasks_at_one_instant_is_served_whatever_their_classes():
    a, b = play(scenario(ue=dict(queue_limit=1)), (0, 0.0, 0, 2, 1), (0, 0.0, 0, 4, 0))
    assert ends((a, b)) == exactly([2.5, 6.0])
    (a, b) = play(scenario(ue=dict(queue_limit=0)), (0, 0.0, 0, 2, 1), (0, 0.0, 0, 4, 0))
    assert a.end_s == exactly(2.5)
    assert b.lost and b.end_s == 0.0


def test_battery_falls_when_energy_is_charged_and_stops_at_zero():
    world = scenario(ue=dict(battery_j=60.0, battery_care=1.0))
    plan = (0, 0.0, 0, 4), (0, 1.0, 0, 4), (0, 4.0, 0, 4), (1, 8.0, 0, 4)
    factors = [outcome.energy_cost / 1.2 for outcome in play(world, *plan, level=0.5)]
    assert factors == exactly([1.5, 1.5, 1.6, 1.5])
    factors = [outcome.energy_cost / 1.2 for outcome in play(world, *plan, level=0.05)]
    assert factors == exactly([1.95, 1.95, 2.0, 1.95])


def test_difficulty_stretches_the_quality_curve():
    contents = [dict(name="easy", share=0.5, difficulty=1.0), dict(name="hard", share=0.5, difficulty=2.0)]
    plan = (0, 0.0, 0, 4, 0, 0, 1), (0, 0.0, 1, 4, 0, 0, 0), (1, 50.0, 1, 4, 0, 0, 1)
    a, b, c = play(scenario(contents=contents), *plan)
    assert a.quality == exactly(0.8 / (1 + 4 / 4))
    assert b.quality == exactly(1 / (1 + 9 / 16))
    assert c.quality == exactly(1 / (1 + 36 / 16))


# Offloading


def test_offloading_alone():
    world = scenario(bs=dict(speed=2.0), cost=dict(bs_energy_weight=0.5))
    (a,) = play(world, (0, 1.0, 1, 3))
    rounds_s = (1.3 + 1.1 + 1.4) / 2
    assert a.end_s == exactly(1 + 2 + rounds_s + 1)
    assert a.energy_ue_j == exactly(2.3 * 2 + 0.1 * rounds_s + 1.0 * 1)
    assert a.energy_bs_j == exactly(3 * 8 + 5)
    assert a.energy_cost == exactly(2 * (2.3 * 2 + 0.1 * 1.9 + 1 + 0.5 * 29) / 10)
    assert a.quality == exactly(1 / (1 + 1.0**2))
    assert (a.place, a.refused) == (1, False)


def test_a_single_step_has_encoder_and_decoder_in_one_round():
    (a,) = play(scenario(radio=dict(downlink=False)), (0, 0.0, 1, 1))
    assert a.end_s == exactly(2 + 0.2 + 1.1 + 0.3)
    assert a.energy_ue_j == exactly(2.3 * 2 + 0.1 * 1.6)
    assert a.energy_bs_j == exactly(8 + 5)


def test_two_uplinks_share_the_band():
    long = {**REQUEST, "name": "long", "share": 0.5, "bits_in": 64.0}
    short = {**REQUEST, "name": "short", "share": 0.5, "bits_in": 32.0}
    world = scenario(ue=dict(transmit_w=1.0, standby_w=0.0, receive_w=0.0), requests=[long, short])
    for other in (0, 1):  # two transfers of one UE count like those of two
        a, b = play(world, (0, 0.0, 1, 1, 0, 0), (other, 1.0, 1, 1, 0, 1))
        assert a.energy_ue_j == exactly(1 + 32 / SHARED + 1)
        assert b.energy_ue_j == exactly(32 / SHARED)


def test_rates_change_at_the_borders_of_coherence_blocks():
    world = scenario(ue=dict(standby_w=0.0, receive_w=0.0, transmit_w=1.0), radio=dict(coherence_s=1.0))
    gains = [24.0, 8.0, 56.0]  # 16, 8 and 24 bit/s
    (a,) = play(world, (0, 0.5, 1, 1), gain=lambda ue, bs, block: gains[block] if block < 3 else 24.0)
    assert a.energy_ue_j == exactly(0.5 + 1 + (32 - 8 - 8) / 24)


def test_two_images_of_one_request_end_their_uplinks_together_but_the_first_starts_alone():
    a, b = play(scenario(), (0, 0.0, 1, 2), (0, 0.0, 1, 1))
    up = 32 / SHARED
    first, second = 0.2 + 1.1, 0.2 + 1.2 + 2 * 0.3
    down = 16 / 8
    assert ends((a, b)) == exactly([up + first + second + down] * 2)
    assert a.energy_bs_j == exactly(8 + 10 / 2 + 5)
    assert b.energy_bs_j == exactly(10 / 2 + 5)
    assert a.energy_ue_j == exactly(2.3 * up + 0.1 * (first + second) + down)


def test_a_batch_of_tasks_with_different_steps():
    world = scenario(radio=dict(downlink=False))
    a, b = play(world, (0, 0.0, 1, 3), (1, 2.0, 1, 2))
    # A runs from 2, B is admitted at 4, during A's second round (3.3 to 4.4)
    both = 0.2 + 1 + 2 * 0.1 + 0.3
    assert a.end_s == exactly(4.4 + both)
    assert b.end_s == exactly(4.4 + both + 1.1 + 0.3)
    assert a.energy_bs_j == exactly(8 + 8 + 5 + 5)
    assert b.energy_bs_j == exactly(5 + 8 + 5)
    assert b.energy_ue_j == exactly(2.3 * 2 + 0.1 * (0.4 + both + 1.4))


def test_the_batch_takes_classes_in_order():
    world = scenario(bs=dict(batch_limit=1), radio=dict(downlink=False))
    a, b, c = play(world, (0, 0.0, 1, 4, 1), (1, 2.0, 1, 1, 1), (1, 4.0, 1, 1, 0))
    assert ends((a, c, b)) == exactly([6.9, 6.9 + 1.6, 6.9 + 2 * 1.6])


def test_refusal_at_connect_falls_back_at_once():
    world = scenario(bs=dict(batch_limit=1, connection_limit=1), ue=dict(queue_limit=1))
    plan = (0, 0.0, 1, 1), (0, 0.0, 1, 2, 1), (0, 0.0, 0, 4, 0), (0, 0.0, 1, 2), (1, 4.7, 1, 1)
    a, b, c, d, e = play(world, *plan)
    assert a.end_s == exactly(2 + 1.6 + 1)  # leaves at 4.6
    assert (b.refused, b.place, b.service_class) == (True, 0, 1)
    assert ends((b, c)) == exactly([2.5, 6.0])  # B is in service before C is decided
    assert b.energy_ue_j == exactly(4.0)
    assert d.refused and d.lost and d.end_s == 0.0
    assert d.penalty_cost == 3.0
    assert (e.refused, e.place, e.end_s) == (False, 1, exactly(4.7 + 4.6))


def test_refusal_at_admission_falls_back_or_loses():
    world = scenario(bs=dict(batch_limit=1, queue_limit=0), ue=dict(queue_limit=0))
    _, b = play(world, (0, 0.0, 1, 4), (1, 2.0, 1, 2))
    assert (b.refused, b.place, b.end_s) == (True, 0, exactly(4 + 2.5))
    assert b.energy_ue_j == exactly(2.3 * 2 + 4)
    assert b.quality == exactly(0.8 / 2)
    _, b, c = play(world, (0, 0.0, 1, 4), (1, 2.0, 1, 2), (1, 3.0, 0, 10))
    assert (b.refused, b.lost, b.missed, b.place, b.end_s) == (True, True, False, 0, exactly(4.0))
    assert b.energy_ue_j == exactly(2.3 * 2)
    assert b.cost == exactly(2 / 5 + 2 * 4.6 / 10 + 3 + 3)
    assert c.end_s == exactly(3 + 6.5)


def test_admission_counts_those_who_wait_besides_the_batch():
    """With room in the batch a task still waits for the end of the round: it needs a place in the queue."""
    world = scenario(ue=dict(count=3), bs=dict(batch_limit=4, queue_limit=1), radio=dict(downlink=False))
    # A runs 20 steps from 2, its rounds end at 3.3, 4.4, ...; B and C come together at 2.1 + 32/SHARED
    plan = (0, 0.0, 1, 20), (1, 2.1, 1, 1), (2, 2.1, 1, 1)
    b, c = play(world, *plan)[1:]
    up = 2.1 + 32 / SHARED
    assert 4.4 < up < 5.5
    assert (b.place, b.end_s) == (1, exactly(5.5 + 0.2 + 1.2 + 0.3))
    assert (c.refused, c.place, c.end_s) == (True, 0, exactly(up + 2.0))


# Deadlines


def test_deadline_at_the_own_device():
    world = scenario(request=dict(deadline_s=3.0))
    a, b, c, d = play(world, (0, 0.0, 0, 2), (0, 0.1, 0, 2), (0, 0.2, 0, 2), (0, 4.6, 0, 2))
    assert ends((a, b, c, d)) == exactly([2.5, 5.0, 5.0, 7.5])
    assert [o.missed for o in (a, b, c, d)] == [False, True, True, False]
    assert [o.dropped for o in (a, b, c, d)] == [False, False, True, False]
    assert (b.quality, b.penalty_cost) == (exactly(0.4), 1.0)
    assert (c.quality, c.energy_ue_j, c.place) == (0.0, 0.0, 0)
    assert c.cost == exactly(4.8 / 5 + 3 + 1)


def test_deadline_at_a_bs():
    world = scenario(request=dict(deadline_s=3.0), bs=dict(batch_limit=1, connection_limit=2))
    plan = (0, 0.0, 1, 4), (1, 2.0, 1, 1), (1, 5.0, 1, 1), (1, 7.0, 1, 1)
    a, b, c, d = play(world, *plan)
    assert (a.missed, a.dropped, a.end_s) == (True, False, exactly(7.9))
    assert (b.missed, b.dropped, b.place, b.end_s) == (True, True, 1, exactly(6.9))
    assert b.energy_ue_j == exactly(2.3 * 2 + 0.1 * 2.9)
    assert b.energy_bs_j == 0.0
    assert (c.refused, c.place) == (True, 0)  # A and B hold the connections at 5
    assert (d.place, d.missed, d.end_s) == (1, True, exactly(9 + 1.6 + 1))  # B has let go of its own


def test_deadline_passed_during_the_uplink():
    long = dict(bits_in=64.0, deadline_s=3.0)
    (a,) = play(scenario(request=long), (0, 0.0, 1, 1))  # an idle engine drops it as well
    assert (a.dropped, a.place, a.end_s, a.energy_ue_j) == (True, 1, exactly(4.0), exactly(2.3 * 4))


# Interference


def test_interference_in_the_uplink_counts_each_cell_by_its_shares():
    world = scenario(
        ue=dict(transmit_w=1.0, standby_w=0.0, receive_w=0.0), bs=dict(count=2), radio=dict(interference=True)
    )
    gains = {(0, 0): 24.0, (1, 0): 16.0, (1, 1): 24.0, (0, 1): 64.0}
    plan = (0, 0.0, 1, 1), (1, 0.0, 2, 1), (1, 0.0, 2, 1)
    a, b, c = play(world, *plan, gain=lambda ue, bs, block: gains[ue, bs])
    # BS 0 hears (16 + 16)/2 on top of 8 W: 8·log2(1 + 24/24). BS 1 hears 64: 4·log2(1 + 24/(72/2)) each
    assert a.energy_ue_j == exactly(32 / 8)
    left = 32 - 4 * 4 * math.log2(5 / 3)
    assert b.energy_ue_j == exactly(4 + left / SHARED)
    assert c.energy_ue_j == exactly(4 + left / SHARED)


def test_interference_in_the_downlink_has_the_full_power_of_other_cells():
    bss = [{**BS, "name": "weak"}, {**BS, "name": "strong", "power_w": 3.0}]
    world = scenario(bss=bss, radio=dict(interference=True))
    a, b = play(world, (0, 0.0, 1, 1), (1, 0.0, 2, 1), gain=lambda ue, bs, block: 24.0 if ue == bs else 16.0)
    down = 32 / 8 + 1.6  # both hear 8 + 16 W in the uplink: 8·log2(1 + 24/24)
    assert b.end_s == exactly(down + 1)  # 8·log2(1 + 3·24/(8 + 16)) = 16
    left = 16 - 8 * math.log2(1 + 24 / (8 + 3 * 16))
    assert a.end_s == exactly(down + 1 + left / 16)


# Slots


def test_slots_decide_one_task_of_each_ue_in_ue_order():
    world = scenario(decision=dict(interval_s=2.0), bs=dict(batch_limit=1, connection_limit=1), ue=dict(queue_limit=2))
    plan = (1, 0.1, 1, 1), (1, 0.2, 0, 2), (0, 0.9, 1, 1)
    a, b, c = play(world, *plan)
    assert (c.place, c.refused, c.end_s) == (1, False, exactly(2 + 4.6))  # UE 0 first, though it came last
    assert (a.place, a.refused, a.end_s) == (0, True, exactly(2 + 2.0))
    assert (b.place, b.end_s, b.delay_s) == (0, exactly(4 + 2.5), exactly(6.3))


def test_slots_lose_what_finds_the_pending_list_full():
    world = scenario(decision=dict(interval_s=2.0), ue=dict(queue_limit=1))
    a, b, c = play(world, (0, 0.5, 0, 2), (0, 0.6, 0, 2), (0, 2.1, 0, 2))
    assert a.end_s == exactly(4.5)
    assert (b.lost, b.place, b.steps, b.service_class, b.end_s) == (True, -1, -1, -1, exactly(0.6))
    assert b.cost == exactly(3 + 3)
    assert c.end_s == exactly(4.5 + 2.5)  # decided at 4, waits half a second


def test_a_task_that_arrives_at_a_slot_is_decided_in_it():
    world = scenario(decision=dict(interval_s=0.1))
    a, b = play(world, (0, 0.0, 0, 2), (1, 3 * 0.1, 0, 2))
    assert ends((a, b)) == exactly([2.5, 2.8])


# The whole


def test_sleeping_until_an_instant_is_exact():
    env, draw = simpy.Environment(), random.Random(1)
    instants = sorted(draw.uniform(0, 300) for _ in range(1000))

    def sleeper():
        for instant in instants:
            yield from until(env, instant)
            assert env.now == instant

    env.run(until=env.process(sleeper()))


@pytest.mark.parametrize("interval_s", [0.0, 1.0])
@pytest.mark.parametrize("interference", [False, True])
def test_every_task_ends_once_and_its_account_adds_up(interval_s, interference):
    world = scenario(
        ue=dict(count=5, queue_limit=2, battery_j=200.0, battery_care=1.0),
        bs=dict(count=2, queue_limit=1, connection_limit=5, bandwidth_hz=40.0),
        request=dict(deadline_s=9.0),
        radio=dict(coherence_s=1.0, interference=interference),
        decision=dict(interval_s=interval_s),
    )
    draw = random.Random(7)
    arrivals = sorted(draw.uniform(0, 60) for _ in range(120))
    plan = [(draw.randrange(5), at, draw.randrange(3), draw.choice([1, 2, 4, 8]), draw.randrange(2)) for at in arrivals]

    def gain(ue, bs, block):
        return 100 * random.Random(f"{ue},{bs},{block}").expovariate(1.0)

    outcomes = play(world, *plan, gain=gain)
    assert [(o.ue, o.arrival_s) for o in outcomes] == [(ue, at) for ue, at, *_ in plan]
    for o in outcomes:
        assert not (o.lost and (o.dropped or o.missed))
        assert o.missed or not o.dropped
        assert (o.quality == 0.0) == (o.lost or o.dropped)
        assert o.delay_s == exactly(o.end_s - o.arrival_s) and o.delay_s >= 0
        assert o.lost or o.missed or o.delay_s <= 9
        assert o.cost == exactly(o.delay_cost + o.energy_cost + o.quality_cost + o.penalty_cost)
    for kind in ("lost", "dropped", "missed", "refused"):
        assert any(getattr(o, kind) for o in outcomes), f"the case should show a task that is {kind}"
    assert play(world, *plan, gain=gain) == outcomes
