"""The agent's observation is the simulator's, for the same state."""

import numpy as np
import pytest

from edgebrush.agent.observer import Observer, OwnQueue, StationView
from edgebrush.decision import observation as obs
from edgebrush.decision.observation import LoadReport, TaskContext
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.parameters import NONE
from edgebrush.sim.simulator import Simulator

STEPS = 300


def as_the_agent_sees(simulator, observers):
    """The deciding UE's observation, built by its observer from the state of the one episode."""
    episode, worlds = simulator.worlds.episode[0, 0], simulator.worlds
    task = worlds.task[0, episode["deciding"]]
    ue, now, classes = worlds.ue[0, task["ue"]], float(episode["time"]), simulator.action_space.classes
    _, candidates, _ = simulator.layout.split(simulator.observations[0].astype(float))
    context = TaskContext(
        *(
            float(task[name])
            for name in (
                "delay_weight",
                "energy_weight",
                "quality_weight",
                "difficulty",
                "bits_in",
                "bits_out",
                "deadline_at",
            )
        )
    )
    busy_s = float(ue["serving_until"]) - now if ue["serving"] != NONE else 0.0
    queue = OwnQueue(busy_s, int(ue["waiting"]), ue["work_s"][:classes])
    views = []
    for slot, j in enumerate(worlds.neighbour[0, task["ue"]], 1):
        report = worlds.report[0, j]
        row = candidates[slot]
        report = LoadReport(
            float(report["time"]),
            int(report["running"]),
            int(report["steps_left"]),
            int(report["connections"]),
            report["waiting"][:classes],
            report["waiting_steps"][:classes],
        )
        in_flight = int(worlds.link[0, task["ue"], j]["in_flight"])
        up_bps, down_bps = context.bits_in / row[obs.UP_S], context.bits_out / row[obs.DOWN_S]
        views.append(StationView(int(j), report, up_bps, down_bps, in_flight))
    observer = observers[task["ue"]]
    observer.battery_j = float(ue["battery_j"])
    return observer.observe(context, queue, views, now)


@pytest.mark.parametrize("preset", ["testbed", "campus"])
def test_the_same_state_gives_the_same_observation(preset):
    scenario = load_scenario(preset)
    simulator = Simulator(scenario, 1, threads=1)
    observers = [Observer(scenario, ue, 1.0) for ue in range(scenario.ue_count)]
    rng = np.random.default_rng(1)
    simulator.reset(np.array([5]))
    queued = 0
    for _ in range(STEPS):
        seen = as_the_agent_sees(simulator, observers)
        np.testing.assert_allclose(seen, simulator.observations[0], rtol=2e-6, atol=1e-9)
        queued += simulator.worlds.ue[0]["waiting"].sum() > 0
        simulator.step(rng.integers(simulator.action_space.count, size=1))
    assert queued > STEPS / 20  # so the states were not all alike


def test_a_task_context_is_what_the_simulator_makes_of_a_request():
    scenario = load_scenario("campus")
    observer = Observer(scenario, 0, 0.25)
    kind = scenario.requests[0]
    context = observer.task_context(kind.name, scenario.contents[-1].name, 10.0, 5.0)
    care = 1 + scenario.ues[0].battery_care * 0.75
    assert context.delay_weight == pytest.approx(kind.delay_weight / scenario.cost.delay_ref_s)
    assert context.energy_weight == pytest.approx(kind.energy_weight / scenario.cost.energy_ref_j * care)
    assert context.difficulty == scenario.contents[-1].difficulty and context.deadline_at == 15.0


def test_masked_places_are_not_present():
    observer = Observer(load_scenario("testbed"), 0, 1.0)
    views = [StationView(j, LoadReport.empty(0.0, 2), 1e6, 1e6) for j in range(2)]
    context = observer.task_context("waiting", "bag", 0.0)
    observer.observe(context, OwnQueue(0.0, 0, (0, 0)), views, 1.0)
    assert observer.present == [0, 1, 2]
    seen = observer.observe(context, OwnQueue(0.0, 0, (0, 0)), views, 1.0, {1})
    _, candidates, cost = observer.layout.split(seen)
    assert observer.present == [0, 2] and candidates[1, obs.PRESENT] == 0 and not cost[1].any() and cost[2].all()


def test_the_battery_drains_and_never_below_empty():
    observer = Observer(load_scenario("testbed"), 0, 0.5)
    observer.charge(observer.battery_j / 2)
    assert observer.level == pytest.approx(0.25)
    observer.charge(1e9)
    assert observer.level == 0.0
