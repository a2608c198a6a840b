"""Pictures of the world: their shape, and that they show the state."""

import numpy as np
import pytest

from edgebrush.envs import AecEnv, MergedEnv, MergedVectorEnv, SlottedEnv
from edgebrush.envs.snapshot import DOWNLINK, RUNNING, UPLINK, WAITING, take_snapshot
from edgebrush.errors import UserError
from edgebrush.policies.load import load_policy
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.simulator import Simulator

PAIR = load_scenario("pair")
CAMPUS = load_scenario("campus")


def busy_campus(decisions):
    """A campus that the selfish rule has overloaded, after so many decisions."""
    policy = load_policy("selfish-greedy", CAMPUS)
    simulator = Simulator(CAMPUS, 2)
    simulator.reset(np.array([3, 4]))
    for _ in range(decisions):
        simulator.step(policy.choose(simulator.observations, np.full(2, 0.5)))
    return simulator


def test_a_picture_is_an_rgb_array_that_changes_with_the_state():
    env = MergedEnv(PAIR, render_mode="rgb_array")
    env.reset(seed=1)
    first = env.render()
    assert first.shape == (720, 1200, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, env.render())
    for _ in range(3):
        env.step(env.action_space.n - 1)
    assert (env.render() != first).any()


def test_a_picture_changes_nothing():
    scenario = CAMPUS.model_copy(
        update={"mobility": CAMPUS.mobility.model_copy(update={"speed_mps": 1.5}), "horizon_s": 20.0}
    )

    def play(render):
        env = MergedEnv(scenario, render_mode="rgb_array")
        env.reset(seed=2)
        rewards, over = [], False
        while not over:
            if render and len(rewards) % 50 == 0:
                env.render()
            _, reward, over, _, _ = env.step(len(rewards) % env.action_space.n)
            rewards.append(reward)
        return rewards

    assert play(True) == play(False)


def test_every_interface_draws():
    aec = AecEnv(PAIR, render_mode="rgb_array")
    aec.reset(seed=0)
    assert aec.render().ndim == 3
    slotted = PAIR.model_copy(update={"decision": PAIR.decision.model_copy(update={"interval_s": 0.5})})
    parallel = SlottedEnv(slotted, render_mode="rgb_array")
    parallel.reset(seed=0)
    assert parallel.render().ndim == 3
    vector = MergedVectorEnv(PAIR, 2, render_mode="rgb_array")
    vector.reset(seed=0)
    one, other = vector.render()
    assert (one != other).any()


def test_without_a_render_mode_nothing_is_drawn():
    env = MergedEnv(PAIR)
    env.reset(seed=0)
    assert env.render() is None
    with pytest.raises(UserError, match="render_mode = 'human': not supported"):
        MergedEnv(PAIR, render_mode="human")


def test_a_snapshot_holds_what_the_simulator_counts():
    simulator = busy_campus(200)
    for e in range(2):
        world = take_snapshot(simulator, e)
        bss, state = simulator.worlds.bs[e], simulator.worlds.episode[e, 0]
        uplinks, downlinks = simulator.worlds.band[e]["count"].reshape(-1, 2).T
        for phase, counts in (
            (UPLINK, uplinks),
            (RUNNING, bss["running"]),
            (WAITING, bss["queued"]),
            (DOWNLINK, downlinks),
        ):
            found = np.bincount([task.bs for task in world.tasks if task.phase == phase], minlength=3)
            np.testing.assert_array_equal(found, counts)
        on_devices = (world.device_busy_s > 0).sum() + simulator.worlds.ue[e]["waiting"].sum()
        assert len(world.tasks) + on_devices + 1 == state["in_system"]  # one waits for its decision
        assert any(task.phase == WAITING for task in world.tasks)
        assert all(0.0 <= task.progress <= 1.0 for task in world.tasks)
        assert ((world.ue_positions >= 0) & (world.ue_positions <= CAMPUS.area_m)).all()


def test_a_transfer_comes_closer():
    """Tasks that send up move from their UE to the BS from one decision to the next."""
    simulator = busy_campus(20)
    seen = {}
    moved = 0
    for _ in range(40):
        for task in take_snapshot(simulator).tasks:
            key = (task.phase, task.ue, task.bs)
            if task.phase == DOWNLINK and key in seen and task.progress > seen[key]:
                moved += 1
            seen[key] = task.progress
        simulator.step(np.zeros(2, np.int64) + simulator.action_space.count - 1)
    assert moved > 0


def test_a_drained_world_is_drawn_as_well():
    env = MergedEnv(PAIR.model_copy(update={"horizon_s": 1e-6}), render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (720, 1200, 3)
