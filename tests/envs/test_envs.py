"""The standard interfaces pass their libraries' own tests and agree with the simulator."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test
from pettingzoo.test.state_test import state_test

from edgebrush.envs import AecEnv, MergedEnv, MergedVectorEnv, SlottedEnv, action_mask, make
from edgebrush.errors import UserError
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.simulator import Simulator, records_needed

pytestmark = [
    # PettingZoo's tests warn of what no rule asks for: dict observations, no picture, spaces without bounds.
    pytest.mark.filterwarnings("ignore::UserWarning:pettingzoo"),
    pytest.mark.filterwarnings("ignore::UserWarning:gymnasium"),
]


def scenario_of(interval_s=0.0, horizon_s=20.0, **decision):
    """A small busy campus: one UE of each kind, three BSs with short queues, short episodes."""
    campus = load_scenario("campus")
    return campus.model_copy(
        update={
            "horizon_s": horizon_s,
            "ues": tuple(ue.model_copy(update={"count": 1, "rate_factor": 4.0}) for ue in campus.ues),
            "bss": tuple(bs.model_copy(update={"queue_limit": 1, "connection_limit": 8}) for bs in campus.bss),
            "decision": campus.decision.model_copy(update={"interval_s": interval_s, **decision}),
        }
    )


MERGED = scenario_of()
SLOTTED = scenario_of(interval_s=0.5)


def test_aec_passes_pettingzoos_tests():
    api_test(AecEnv(MERGED), num_cycles=200)
    seed_test(lambda: AecEnv(MERGED), num_cycles=100)


def test_parallel_passes_pettingzoos_tests():
    parallel_api_test(SlottedEnv(SLOTTED), num_cycles=300)
    parallel_seed_test(lambda: SlottedEnv(SLOTTED), num_cycles=100)


def test_states_pass_pettingzoos_tests():
    state_test(AecEnv(MERGED), SlottedEnv(SLOTTED), num_cycles=50)


def test_single_passes_gymnasiums_tests():
    check_env(MergedEnv(MERGED), skip_render_check=True)
    check_env(MergedEnv(SLOTTED), skip_render_check=True)


def test_an_environment_made_by_id_passes_gymnasiums_tests_and_renders():
    check_env(gymnasium.make("edgebrush/Pair-v0", render_mode="rgb_array").unwrapped)


def allowed(mask, rng):
    """A random choice that the mask allows."""
    return int(rng.choice(np.flatnonzero(mask)))


def play_aec(env, seed, rng):
    """Decisions (agent, observation, choice), each agent's return, and the time that its gaps cover."""
    env.reset(seed=seed)
    decisions, returns, seconds = [], dict.fromkeys(env.agents, 0.0), dict.fromkeys(env.agents, 0.0)
    for agent in env.agent_iter():
        seen, reward, over, _, info = env.last()
        returns[agent] += reward
        seconds[agent] += info["gap_s"]
        choice = None if over else allowed(seen["action_mask"], rng)
        if not over:
            decisions.append((agent, seen["observation"], choice))
        env.step(choice)
    return decisions, returns, seconds


def test_aec_is_the_simulators_episode():
    decisions, returns, seconds = play_aec(AecEnv(MERGED), 7, np.random.default_rng(0))
    simulator = Simulator(MERGED, 1, records=records_needed(MERGED))
    simulator.reset(np.array([7]))
    first_s = simulator.worlds.episode["time"][0, 0]
    for agent, observation, choice in decisions:
        assert simulator.alive[0]
        ue = simulator.worlds.task["ue"][0, simulator.worlds.episode["deciding"][0, 0]]
        assert agent == f"ue_{ue}"
        np.testing.assert_array_equal(observation, simulator.observations[0])
        simulator.step(np.array([choice]))
    assert not simulator.alive[0]
    cost = simulator.outcomes()["cost"].sum()
    assert cost > 0
    for agent in returns:  # the team's reward: every agent's return is minus the cost of all tasks
        assert returns[agent] == pytest.approx(-cost, rel=1e-9)
        assert seconds[agent] == pytest.approx(simulator.worlds.episode["time"][0, 0] - first_s, rel=1e-9)


def test_aec_shows_nothing_to_an_agent_that_is_not_selected():
    env = AecEnv(MERGED)
    env.reset(seed=1)
    for agent in env.agents:
        seen = env.observe(agent)
        assert seen["observation"].any() == (agent == env.agent_selection)
        assert seen["action_mask"].any() == (agent == env.agent_selection)


def test_global_state_is_zero_once_drained():
    env = AecEnv(MERGED)
    env.reset(seed=1)
    assert env.state().any()
    play_aec(env, 1, np.random.default_rng(0))
    assert not env.state().any()


@pytest.mark.parametrize("broadcast_interval_s", [0.0, 1.0])
def test_slot_observations_are_those_that_the_simulator_gives_one_by_one(broadcast_interval_s):
    """Taken for all at the slot's start, they equal those taken after others of the slot have decided."""
    scenario = SLOTTED.model_copy(update={"broadcast_interval_s": broadcast_interval_s})
    env, rng = SlottedEnv(scenario), np.random.default_rng(0)
    simulator = Simulator(scenario, 1)
    seen, _ = env.reset(seed=3)
    simulator.reset(np.array([3]))
    most_at_once, rewards = 0, 0.0
    while env.agents:
        actions = {agent: allowed(seen[agent]["action_mask"], rng) for agent in env.agents}
        deciding = [agent for agent in env.agents if actions[agent] != env.none]
        state = env.state()[-6 * len(env.agents) :].reshape(-1, 6)[:, -1]
        assert [f"ue_{i}" for i in np.flatnonzero(state)] == deciding
        expected = 0.0
        for agent in deciding:
            ue = simulator.worlds.task["ue"][0, simulator.worlds.episode["deciding"][0, 0]]
            assert agent == f"ue_{ue}"
            np.testing.assert_array_equal(seen[agent]["observation"], simulator.observations[0])
            simulator.step(np.array([actions[agent]]))
            expected += simulator.rewards[0]
        most_at_once = max(most_at_once, len(deciding))
        agents = env.agents
        seen, reward, _, _, infos = env.step(actions)
        assert reward == dict.fromkeys(agents, pytest.approx(expected, rel=1e-12))
        slots = infos[agents[0]]["gap_s"] / scenario.decision.interval_s
        assert not env.agents or slots == pytest.approx(round(slots))
        rewards += expected
    assert most_at_once == len(env.possible_agents)
    assert not simulator.alive[0] and rewards < 0


def test_a_slots_choices_are_all_there_or_refused_untouched():
    env = SlottedEnv(SLOTTED)
    seen, _ = env.reset(seed=3)
    deciding = [agent for agent in env.agents if not seen[agent]["action_mask"][env.none]]
    idle = [agent for agent in env.agents if agent not in deciding]
    assert deciding and idle
    assert all(seen[agent]["action_mask"].sum() == 1 and not seen[agent]["observation"].any() for agent in idle)
    with pytest.raises(ValueError, match="a pending task needs one of 0"):
        env.step(dict.fromkeys(env.agents, env.none))
    actions = {agent: allowed(seen[agent]["action_mask"], np.random.default_rng(0)) for agent in deciding}
    after, *_ = env.step(actions | dict.fromkeys(idle, 5))  # what an idle agent does is ignored
    env.reset(seed=3)
    again, *_ = env.step(actions)
    np.testing.assert_equal(after, again)


def test_vector_equals_gymnasiums_own_vector_of_single_environments():
    ours = MergedVectorEnv(MERGED, 3)
    theirs = SyncVectorEnv([lambda: MergedEnv(MERGED)] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    rng, ended = np.random.default_rng(0), np.zeros(3, bool)
    mine, my_infos = ours.reset(seed=5)
    other, other_infos = theirs.reset(seed=5)
    while not ended.any():  # the episodes that follow are drawn from differently seeded generators
        np.testing.assert_array_equal(mine, other)
        np.testing.assert_array_equal(my_infos["action_mask"], other_infos["action_mask"])
        choices = np.array([allowed(mask, rng) for mask in my_infos["action_mask"]])
        mine, *my_rest, my_infos = ours.step(choices)
        other, *other_rest, other_infos = theirs.step(choices)
        for a, b in zip(my_rest, other_rest, strict=True):
            np.testing.assert_array_equal(a, b)
        ended = my_rest[1]
        np.testing.assert_array_equal(my_infos["gap_s"][~ended], other_infos["gap_s"][~ended])
    assert not ended.all()
    for key in ("_final_obs", "_final_info"):
        np.testing.assert_array_equal(my_infos[key], other_infos[key])
    np.testing.assert_array_equal(my_infos["final_info"]["gap_s"][ended], other_infos["final_info"]["gap_s"][ended])
    for e in np.flatnonzero(ended):
        np.testing.assert_array_equal(my_infos["final_obs"][e], other_infos["final_obs"][e])


def test_vector_serves_gymnasiums_wrappers_and_starts_fresh_episodes():
    simulator = Simulator(MERGED, 2, records=records_needed(MERGED))
    simulator.reset(np.array([11, 12]))
    while simulator.alive.any():
        simulator.step(np.zeros(2, np.int64))
    outcomes = simulator.outcomes()
    costs = [outcomes["cost"][outcomes["episode"] == e].sum() for e in range(2)]

    env = DictInfoToList(RecordEpisodeStatistics(MergedVectorEnv(MERGED, 2)))
    observations, infos = env.reset(seed=11)
    first, returns = observations.copy(), [[], []]
    while min(len(seen) for seen in returns) < 2:
        before = observations
        kept = before.copy()
        observations, _, over, _, infos = env.step(np.zeros(2, np.int64))
        np.testing.assert_array_equal(before, kept)  # what was handed out is not written to again
        for e in np.flatnonzero(over):
            returns[e].append(infos[e]["episode"]["r"])
            assert not infos[e]["final_obs"].any() and observations[e].any()
            assert not np.array_equal(observations[e], first[e])
        assert all(info["action_mask"].shape == (env.single_action_space.n,) for info in infos)
    assert [seen[0] for seen in returns] == pytest.approx([-cost for cost in costs], rel=1e-6)
    assert returns[0][1] != pytest.approx(returns[0][0])


def test_vector_is_reproducible():
    def play():
        env = MergedVectorEnv(MERGED, 2)
        env.action_space.seed(0)
        env.reset(seed=4)
        steps = [env.step(env.action_space.sample()) for _ in range(300)]
        assert any(over.any() for _, _, over, _, _ in steps)
        return np.concatenate([rewards for _, rewards, *_ in steps])

    np.testing.assert_array_equal(play(), play())


def test_an_episode_without_tasks_ends_at_the_first_step():
    empty = MERGED.model_copy(update={"horizon_s": 1e-6})
    env = MergedVectorEnv(empty, 2)
    observations, infos = env.reset(seed=0)
    assert not observations.any() and infos["action_mask"].all()
    _, rewards, over, _, infos = env.step(np.zeros(2, np.int64))
    assert over.all() and not rewards.any()
    slotted = SlottedEnv(SLOTTED.model_copy(update={"horizon_s": 1e-6}))
    slotted.reset(seed=0)
    _, _, terminations, _, _ = slotted.step({})
    assert all(terminations.values()) and slotted.agents == []
    assert play_aec(AecEnv(empty), 0, np.random.default_rng(0))[0] == []


def test_mask_holds_the_choices_of_the_targets_that_look_usable():
    env = MergedVectorEnv(MERGED, 1)
    rng = np.random.default_rng(0)
    _, infos = env.reset(seed=0)
    masks = []
    for _ in range(200):
        masks.append(infos["action_mask"][0])
        crowd_the_last_bs = env.single_action_space.n - 1 - rng.integers(18, size=1)
        *_, infos = env.step(crowd_the_last_bs)
    per_target = np.array(masks).reshape(200, -1, 18)
    assert (per_target == per_target[:, :, :1]).all()
    assert per_target[:, 1:-1].all() and 0 < per_target[:, -1].mean() < 1
    assert 0 < per_target[:, 0].mean() < 1  # refused tasks have filled the own device, too


def test_own_device_is_out_of_bounds_where_the_scenario_says_so():
    env = MergedEnv(scenario_of(local=False))
    observation, info = env.reset(seed=0)
    np.testing.assert_array_equal(info["action_mask"], action_mask(env.layout, observation))
    assert not info["action_mask"][:18].any() and info["action_mask"][18:].all()
    with pytest.raises(ValueError, match=r"actions \[3\]: a pending task needs one of 18"):
        env.step(3)
    env.step(18)


def test_make_returns_the_requested_interface():
    assert isinstance(make(MERGED), AecEnv)
    assert isinstance(make("campus", "single"), gymnasium.Env)
    assert isinstance(make(SLOTTED, kind="parallel"), SlottedEnv)
    assert make(MERGED, kind="vector", episodes=3).num_envs == 3


@pytest.mark.parametrize(
    ("scenario", "kind", "message"),
    [
        (SLOTTED, "aec", "interval_s = 0.5 .*kind='parallel'"),
        (MERGED, "parallel", "interval_s = 0 .*kind='aec'"),
        (MERGED, "gym", "kind = 'gym'"),
        ("no-such-preset", "aec", "no-such-preset"),
    ],
)
def test_errors_of_make_say_what_to_do(scenario, kind, message):
    with pytest.raises(UserError, match=message):
        make(scenario, kind)


def test_vector_needs_an_episode():
    with pytest.raises(UserError, match="episodes = 0"):
        make(MERGED, "vector", episodes=0)
