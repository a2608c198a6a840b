"""Environments by id: Gymnasium finds every preset, whichever package is imported first."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import edgebrush
from edgebrush.envs import AecEnv, MergedEnv, MergedVectorEnv, SlottedEnv
from edgebrush.envs.registration import environment_id
from edgebrush.errors import UserError
from edgebrush.scenario.presets import preset_names


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_has_an_id(preset):
    spec = gymnasium.spec(environment_id(preset))
    assert spec.kwargs == {"scenario": preset}


def test_ids_are_the_names_in_camel_case():
    assert environment_id("campus-gentd26") == "edgebrush/CampusGentd26-v0"


def test_make_gives_the_team_as_one_agent():
    env = gymnasium.make("edgebrush/Pair-v0")
    observation, _ = env.reset(seed=3)
    assert isinstance(env.unwrapped, MergedEnv)
    assert env.unwrapped.scenario.name == "pair"
    expected, _ = edgebrush.make("pair", "single").reset(seed=3)
    np.testing.assert_array_equal(observation, expected)


def test_make_vec_gives_the_compiled_vector_environment():
    env = gymnasium.make_vec("edgebrush/Campus-v0", num_envs=3)
    observations, infos = env.reset(seed=5)
    assert isinstance(env, MergedVectorEnv) and env.num_envs == 3
    expected, _ = edgebrush.make("campus", "vector", episodes=3).reset(seed=5)
    np.testing.assert_array_equal(observations, expected)
    assert infos["action_mask"].shape == (3, env.single_action_space.n)


@pytest.mark.process
@pytest.mark.parametrize(
    "code",
    [
        "import edgebrush, gymnasium; gymnasium.spec('edgebrush/Campus-v0')",
        "import gymnasium, edgebrush; gymnasium.spec('edgebrush/Campus-v0')",
        "import gymnasium; gymnasium.make('edgebrush:edgebrush/Pair-v0')",
        "import edgebrush, gymnasium.spaces, sys; gymnasium.spec('edgebrush/City-v0')",
    ],
)
def test_the_order_of_imports_does_not_matter(code):
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.process
def test_the_import_hook_removes_itself():
    code = (
        "import sys; before = list(sys.meta_path); import edgebrush, importlib; importlib.reload(edgebrush); "
        "assert len(sys.meta_path) == len(before) + 1; import gymnasium; assert sys.meta_path == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_pettingzoo_has_its_usual_functions():
    from edgebrush import scheduling_v0

    assert isinstance(scheduling_v0.env("pair"), AecEnv)
    env = scheduling_v0.parallel_env("pair", interval_s=0.5)
    assert isinstance(env, SlottedEnv) and env.scenario.decision.interval_s == 0.5
    with pytest.raises(UserError, match="interval_s = -1: must be at least 0"):
        scheduling_v0.parallel_env("pair", interval_s=-1)
    with pytest.raises(UserError, match="set it to a slot's length"):
        scheduling_v0.parallel_env("pair")
