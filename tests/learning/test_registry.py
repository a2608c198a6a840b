"""The registry: every algorithm is complete; impossible hyperparameters are refused with a clear message."""

from dataclasses import fields
from pathlib import Path

import pytest

from edgebrush.cli.main import run
from edgebrush.errors import UserError
from edgebrush.learning.registry import ALGORITHMS, BUDGET, COPIES, COST_TABLE, PRICES, configure

DOCUMENT = Path(__file__).parents[2] / "docs" / "compare.md"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_complete(name):
    algorithm = ALGORITHMS[name]
    config = configure(name, {}, seconds=None, decisions=None)
    assert {each.name for each in fields(config)} >= {*BUDGET, *algorithm.search_grid, *algorithm.settings}
    assert config.seconds is None and config.decisions > 0
    parts = ("step", "share", "seconds", "save", "load", "save_policy")
    assert all(hasattr(algorithm.training, part) for part in parts)
    for number, values in algorithm.search_grid.items():
        assert getattr(config, number) in values  # the search can find what ships
        for value in values:
            assert getattr(configure(name, {number: value}, seconds=1.0, decisions=None), number) == value


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_documents_say_what_each_algorithm_uses(name):
    (row,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    words = {"cost table": COST_TABLE, "prices": PRICES, "copies": COPIES}
    used = row.split("|")[-2].replace("nothing of ours", "")
    assert tuple(words[each.strip()] for each in used.split(",") if each.strip()) == ALGORITHMS[name].uses


def test_hyperparameters_are_parsed_from_text():
    config = configure(
        "mappo-plain", {"learning_rate": "1e-3", "epochs": "2", "init_from_rule": "false"}, seconds=None, decisions=1000
    )
    assert (config.learning_rate, config.epochs, config.init_from_rule, config.copies) == (1e-3, 2, False, 1)
    assert (config.seconds, config.decisions) == (None, 1000)


@pytest.mark.parametrize(
    ("old", "value", "new", "expected"),
    [
        ("sharpness", "2.5", "deploy_inverse_temperature", 2.5),
        ("own_prices", True, "init_from_rule", False),
        ("own_prices", "true", "init_from_rule", False),
        ("own_prices", "false", "init_from_rule", True),
    ],
)
def test_old_names_of_hyperparameters_still_work_with_a_warning(old, value, new, expected):
    with pytest.warns(FutureWarning, match=f"{old} is deprecated; set {new}={str(expected).lower()} instead"):
        config = configure("mappo", {old: value}, seconds=None, decisions=None)
    assert getattr(config, new) == expected
    assert not hasattr(config, old)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rte": 1}, "learning_rte = 1: mappo has no such hyperparameter; it has copies, "),
        ({"learning_rate": "fast"}, "learning_rate = 'fast': must be a number"),
        ({"learning_rate": -1.0}, "learning_rate = -1.0: must be greater than 0"),
        ({"epochs": "2.5"}, "epochs = '2.5': must be a whole number"),
        ({"own_prices": "maybe"}, "own_prices = 'maybe': must be true or false"),
        ({"sharpness": 0}, "deploy_inverse_temperature = 0: must be greater than 0"),
        ({"minibatches": 7}, "minibatches = 7: must divide"),
        ({"seconds": 3}, "give --seconds"),
    ],
)
def test_impossible_hyperparameters_are_refused(settings, message):
    with pytest.raises(UserError) as error:
        configure("mappo", settings, seconds=1.0, decisions=None)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--algorithm", "mapo"], "algorithm = 'mapo': not known; it must be one of mappo, "),
        (["--set", "epochs"], "--set epochs: must be NAME=VALUE"),
        (["--set", "epoch=3"], "epoch = 3: mappo has no such hyperparameter"),
        (["--seconds", "-1"], "seconds = -1.0: must be greater than 0"),
        (["--decisions", "0"], "--decisions"),
    ],
)
def test_the_command_fails_in_one_line_and_writes_nothing(arguments, message, tmp_path, capsys):
    assert run(["train", "pair", "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_command_warns_of_an_old_name_in_one_line(tmp_path, capsys):
    arguments = ["--algorithm", "masl", "--set", "sharpness=-1"]
    assert run(["train", "pair", "--out", str(tmp_path / "out"), *arguments]) == 2
    warning, error = capsys.readouterr().err.strip().splitlines()
    assert warning == "warning: sharpness is deprecated; set deploy_inverse_temperature=-1 instead"
    assert error.startswith("error: deploy_inverse_temperature = '-1': must be greater than 0")
