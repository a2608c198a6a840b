"""Learners of your own by ``module:Class`` and by entry point."""

import pytest

from edgebrush.errors import UserError
from edgebrush.learning.plugins import LEARNERS
from edgebrush.learning.registry import algorithm_of, configure
from tests.support.plugins import CountingConfig, CountingLearner

HERE = "tests.support.plugins"
COUNTING = f"{HERE}:CountingLearner"


def test_a_class_is_an_algorithm():
    algorithm = algorithm_of(COUNTING)
    assert algorithm.title == "counting"
    assert algorithm.training is CountingLearner and algorithm.config is CountingConfig


def test_its_config_is_validated_as_those_of_the_package():
    config = configure(COUNTING, {"choice": "3"}, seconds=None, decisions=50)
    assert config == CountingConfig(None, 50, 3)
    with pytest.raises(UserError, match="choice = 'much': must be a whole number"):
        configure(COUNTING, {"choice": "much"}, seconds=1.0, decisions=None)
    with pytest.raises(UserError, match="learning_rate = 1: "):
        configure(COUNTING, {"learning_rate": "1"}, seconds=1.0, decisions=None)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("sarsa", "algorithm = 'sarsa': not known; it must be one of mappo, .*, or module:Class of your own"),
        (f"{HERE}:Nothing", "has no 'Nothing'"),
        (f"{HERE}:NOT_A_CLASS", "is of type int; it must be a class"),
        (f"{COUNTING}:more", "takes no argument; hyperparameters are set by --set"),
        (f"{HERE}:WithoutSave", "a learner has step, .*; this one lacks save, load"),
        (f"{HERE}:WithoutConfig", "its attribute config must be a dataclass with the fields seconds and decisions"),
    ],
)
def test_a_reference_that_cannot_be_used_is_explained(reference, message):
    with pytest.raises(UserError, match=message):
        algorithm_of(reference)


def test_an_installed_package_registers_learners(tmp_path, monkeypatch):
    about = tmp_path / "somebodys-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{LEARNERS}]\ncounting = {COUNTING}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert algorithm_of("counting").training is CountingLearner
