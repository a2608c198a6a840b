"""Policies of your own by ``module:Class`` and by entry point: they play, and mistakes are explained."""

import sys

import numpy as np
import pytest

from edgebrush.errors import UserError
from edgebrush.policies.load import load_policy
from edgebrush.policies.plugins import POLICIES, plugin_names
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.simulator import Simulator

PAIR = load_scenario("pair")
HERE = "tests.support.plugins"


def observations_of(scenario, episodes=4):
    simulator = Simulator(scenario, episodes)
    simulator.reset(np.arange(episodes))
    return simulator.observations


def test_a_class_decides_as_the_rule_that_it_imitates():
    policy, rule = load_policy(f"{HERE}:SelfishPolicy", PAIR), load_policy("selfish-greedy", PAIR)
    observations, draws = observations_of(PAIR), np.full(4, 0.5)
    assert policy.name == "selfish-of-mine"
    choices = policy.choose(observations, draws)
    assert choices.dtype == np.int64
    np.testing.assert_array_equal(choices, rule.choose(observations, draws))


def test_text_after_a_second_colon_is_an_argument():
    policy = load_policy(f"{HERE}:FixedPolicy:5", PAIR)
    assert policy.name == "always-5"
    assert policy.choose(observations_of(PAIR), np.zeros(4)).tolist() == [5] * 4


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no_such_module:Policy", r"module 'no_such_module' is not found; the current folder and"),
        ("tests.support.nothing:Policy", r"module 'tests.support.nothing' is not found"),
        (f"{HERE}:Nothing", r"module 'tests.support.plugins' has no 'Nothing'"),
        (f"{HERE}:", r"has no ''"),
        (f"{HERE}:NOT_A_CLASS", r"is of type int; it must be a class or function"),
        (f"{HERE}:FixedPolicy", r"cannot be called with a scenario: missing a required argument: 'argument'"),
        (f"{HERE}:SelfishPolicy:text", r"cannot be called with a scenario and the text after the second colon"),
        (f"{HERE}:Nameless", r"a policy has a name and a method choose\(observations, draws\)"),
        (f"{HERE}:LikeARule", r"name = 'selfish-greedy': must be lower-case letters, .* no rule's name"),
        ("what is:this", r"neither a folder of a trained policy nor a rule; .* module:Class"),
    ],
)
def test_a_reference_that_cannot_be_used_is_explained(reference, message):
    with pytest.raises(UserError, match=message):
        load_policy(reference, PAIR)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("OutOfRange", r"OutOfRange': choose returned 10000; a choice is one of 0\.\.23"),
        ("Fractional", r"choose returned float64 of shape \(4,\); it must return one integer per observation"),
        ("OneForAll", r"choose returned int64 of shape \(\)"),
    ],
)
def test_choices_that_cannot_be_used_are_explained(name, message):
    policy = load_policy(f"{HERE}:{name}", PAIR)
    with pytest.raises(UserError, match=message):
        policy.choose(observations_of(PAIR), np.full(4, 0.25))


def test_the_own_device_is_out_of_range_where_the_scenario_excludes_it():
    remote = PAIR.model_copy(update={"decision": PAIR.decision.model_copy(update={"local": False})})
    policy = load_policy(f"{HERE}:FixedPolicy:0", remote)
    with pytest.raises(UserError, match=r"choose returned 0; a choice is one of 8\.\.23"):
        policy.choose(observations_of(remote), np.zeros(4))
    assert action_space(remote).count == 24


def test_a_module_in_the_current_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine_alone.py").write_text("from tests.support.plugins import SelfishPolicy as Mine\n")
    assert load_policy("mine_alone:Mine", PAIR).name == "selfish-of-mine"


def test_a_module_that_needs_something_else_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "needy.py").write_text("import no_such_library\n")
    with pytest.raises(UserError, match="importing needy needs no_such_library, which is not installed"):
        load_policy("needy:Policy", PAIR)


def test_a_defect_of_the_users_module_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_policy("broken:Policy", PAIR)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package that registers two policies, as pip would leave it."""
    about = tmp_path / "somebodys-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        f"[{POLICIES}]\nsomebodys-selfish = {HERE}:SelfishPolicy\nsomebodys-fixed = {HERE}:FixedPolicy\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_an_installed_package_registers_policies(installed):
    assert {"somebodys-selfish", "somebodys-fixed"} <= set(plugin_names(POLICIES))
    assert load_policy("somebodys-selfish", PAIR).name == "selfish-of-mine"
    assert load_policy("somebodys-fixed:3", PAIR).name == "always-3"
