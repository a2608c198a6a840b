"""The launcher: any algorithm by name, one process per seed, and no mixing of different trainings."""

import json
from dataclasses import asdict

import pytest

from edgebrush.errors import UserError
from edgebrush.learning import CHECKPOINT, launcher
from edgebrush.learning.launcher import train
from edgebrush.learning.registry import configure
from edgebrush.scenario.load import load_scenario

TINY = {"copies": 2, "groups": 4, "length": 16}


@pytest.mark.process
def test_a_short_training_saves_a_policy_of_its_algorithm(tmp_path):
    config = configure("masl+common", TINY, seconds=0.001, decisions=None)
    (folder,) = train(load_scenario("pair"), "masl+common", config, (3,), tmp_path, None)
    about = json.loads((folder / "policy.json").read_text())
    assert (about["algorithm"], about["kind"], about["seed"], about["decisions"]) == ("masl+common", "automata", 3, 128)


def test_a_training_of_another_algorithm_is_not_resumed(tmp_path):
    (tmp_path / CHECKPOINT).mkdir()
    (tmp_path / CHECKPOINT / "work.json").write_text(json.dumps({"algorithm": "ippo"}))
    config = configure("masl+common", TINY, seconds=None, decisions=1)
    with pytest.raises(UserError, match="of ippo, not of masl"):
        train(load_scenario("pair"), "masl+common", config, (1,), tmp_path, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bins": 2}, "a training with bins = 2, not 3"),
        ({"sharpness": 4.0}, "another version of edgebrush"),
    ],
)
def test_a_training_with_other_settings_is_not_resumed(change, message, tmp_path):
    config = configure("masl+common", TINY, seconds=None, decisions=1)
    (tmp_path / CHECKPOINT).mkdir()
    specification = {"algorithm": "masl+common", "config": {**asdict(config), **change}}
    (tmp_path / CHECKPOINT / "work.json").write_text(json.dumps(specification))
    with pytest.raises(UserError, match=message):
        train(load_scenario("pair"), "masl+common", config, (1,), tmp_path, None)


def test_a_worker_that_is_stopped_before_its_first_update_saves_nothing(tmp_path, monkeypatch):
    scenario = load_scenario("pair")
    specification = {
        "algorithm": "masl+common",
        "scenario": scenario.model_dump(mode="json"),
        "directory": str(scenario.directory),
        "config": asdict(configure("masl+common", TINY, seconds=None, decisions=1)),
        "rule_parameters": None,
    }
    (tmp_path / CHECKPOINT).mkdir()
    (tmp_path / CHECKPOINT / "work.json").write_text(json.dumps(specification))
    monkeypatch.setattr(launcher.signal, "signal", lambda signum, handler: handler())  # it has arrived already
    with pytest.raises(SystemExit) as stopped:
        launcher.worker_main(tmp_path, 1)
    assert stopped.value.code == launcher.STOPPED
    assert [path.name for path in (tmp_path / CHECKPOINT).iterdir()] == ["work.json"]
