"""The rules choose what their names promise, on observations of running episodes."""

import numpy as np
import pytest

from edgebrush.decision.observation import DELAY_WEIGHT, FIXED_S, LOAD, PRESENT, SERVER_STEP_S, UP_S
from edgebrush.evaluation.episodes import play
from edgebrush.policies.rules import KINDS, tunable_parameters
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.simulator import Simulator
from edgebrush.tuning.rules import rule_of


@pytest.fixture(scope="module")
def campus():
    return load_scenario("campus")


@pytest.fixture(scope="module")
def seen(campus):
    """Observations from the middle of 200 episodes under random choices, and their layout."""
    simulator = Simulator(campus, 200)
    simulator.reset(np.arange(200))
    rng = np.random.default_rng(0)
    for _ in range(150):
        simulator.step(rng.integers(simulator.action_space.count, size=200))
    return simulator.observations.copy(), simulator.layout


def starting(scenario, name):
    return rule_of(scenario, name, np.array([n.start for n in tunable_parameters(KINDS[name], scenario.bs_count)]))


def chosen(rule, seen, draw=0.5):
    """(slots, step indices, classes) that a rule chooses."""
    observations, layout = seen
    choices = rule.choose(observations, np.full(len(observations), draw))
    return layout.action_space.decode(choices)


def test_selfish_greedy_takes_the_least_expected_cost(campus, seen):
    observations, layout = seen
    slots, steps, classes = chosen(starting(campus, "selfish-greedy"), seen)
    _, candidates, cost = layout.split(observations)
    cost = np.where(candidates[..., PRESENT, None, None] > 0, cost, np.inf)
    rows = np.arange(len(observations))
    np.testing.assert_array_equal(cost[rows, slots, steps, classes], cost.min(axis=(1, 2, 3)))


def test_priced_greedy_without_prices_and_temperature_is_selfish_apart_from_its_class(campus, seen):
    names = [parameter.name for parameter in tunable_parameters(KINDS["priced-greedy"], campus.bs_count)]
    parameters = np.array([-20.0 if name.startswith("log_") else 0.0 for name in names])  # all tasks are urgent
    priced = rule_of(campus, "priced-greedy", parameters)
    for a, b in zip(chosen(priced, seen), chosen(starting(campus, "selfish-greedy"), seen), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_high_price_on_every_bs_keeps_the_tasks_on_the_own_device(campus, seen):
    observations, layout = seen
    names = [parameter.name for parameter in tunable_parameters(KINDS["priced-greedy"], campus.bs_count)]
    dear = [100.0 if name.startswith("price_bs") else -5.0 if name.startswith("log_") else 0.0 for name in names]
    slots, _, _ = chosen(rule_of(campus, "priced-greedy", np.array(dear)), seen)
    own_present = layout.split(observations)[1][:, 0, PRESENT] > 0
    assert own_present.sum() > 20 and (slots[own_present] == 0).all()


def test_urgent_tasks_get_the_first_class(campus, seen):
    observations, layout = seen
    weight = layout.split(observations)[0][:, DELAY_WEIGHT]
    _, _, classes = chosen(rule_of(campus, "priced-greedy-3", np.array([0.3, 0.0, np.log(0.2)])), seen)
    np.testing.assert_array_equal(classes, np.where(weight >= 0.2, 0, 1))


def test_rules_with_fixed_steps_go_where_their_names_say(campus, seen):
    observations, layout = seen
    candidates = layout.split(observations)[1]
    present = candidates[..., PRESENT] > 0
    rows = np.arange(len(observations))
    for name in ("local-only", "nearest-bs", "shortest-queue", "random", "capacity-random"):
        slots, steps, _ = chosen(starting(campus, name), seen)
        assert (steps == 2).all()
        if name == "local-only":
            assert (slots == 0).all()
            continue
        assert present[rows, slots].all()
        if name == "nearest-bs":
            near = np.where(present[:, 1:], candidates[:, 1:, UP_S], np.inf)
            some = present[:, 1:].any(1)
            np.testing.assert_array_equal(candidates[rows, slots, UP_S][some], near.min(1)[some])
        if name == "shortest-queue":
            load = np.where(present, candidates[..., LOAD], np.inf)
            np.testing.assert_array_equal(candidates[rows, slots, LOAD], load.min(1))


def test_capacity_random_draws_in_proportion_to_capacity(campus, seen):
    observations, layout = seen
    one = observations[:1]
    rule = rule_of(campus, "capacity-random", np.array([2.0, 0.0, 0.0]))
    draws = (np.arange(4000) + 0.5) / 4000
    slots = rule.choose(np.repeat(one, 4000, axis=0), draws) // layout.action_space.per_slot
    row = layout.split(one)[1][0]
    capacity = row[:, PRESENT] / (row[:, FIXED_S] + campus.decision.step_grid[2] * row[:, SERVER_STEP_S])
    share = np.bincount(slots, minlength=layout.action_space.slots) / 4000
    np.testing.assert_allclose(share, capacity / capacity.sum(), atol=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_compiled_and_plain_python_play_the_same_episode(name):
    """A UE agent runs the rule in plain Python, the evaluation compiles it."""
    pair = load_scenario("pair").model_copy(update={"horizon_s": 20.0})
    rule = starting(pair, name)

    class Plain:
        choose = staticmethod(rule.choose)

    compiled, plain = play(pair, rule, np.arange(3)), play(pair, Plain(), np.arange(3))
    assert len(compiled) > 60
    np.testing.assert_array_equal(compiled["steps"], plain["steps"])
    np.testing.assert_allclose(compiled["cost"], plain["cost"], rtol=1e-9)
