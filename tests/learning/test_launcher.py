"""Seeds in processes of their own: any algorithm by its name, and what is there is not mixed up."""

import json

import pytest

from edgebrush.errors import UserError
from edgebrush.learning import CHECKPOINT
from edgebrush.learning.launcher import train
from edgebrush.learning.registry import configure
from edgebrush.scenario.load import load_scenario

TINY = {"copies": 2, "groups": 4, "length": 16}


@pytest.mark.process
def test_a_training_of_a_moment_leaves_a_policy_of_the_algorithm_asked_for(tmp_path):
    config = configure("masl", TINY, seconds=0.001, decisions=None)
    (folder,) = train(load_scenario("pair"), "masl", config, (3,), tmp_path, None)
    about = json.loads((folder / "policy.json").read_text())
    assert (about["algorithm"], about["kind"], about["seed"], about["decisions"]) == ("masl", "automata", 3, 128)


def test_a_training_of_another_algorithm_is_not_gone_on_with(tmp_path):
    (tmp_path / CHECKPOINT).mkdir()
    (tmp_path / CHECKPOINT / "work.json").write_text(json.dumps({"algorithm": "ippo"}))
    config = configure("masl", TINY, seconds=None, decisions=1)
    with pytest.raises(UserError, match="of ippo, not of masl"):
        train(load_scenario("pair"), "masl", config, (1,), tmp_path, None)
