"""The equal search of the learners' hyperparameters, with random actors instead of trained ones."""

import csv
import json

import numpy as np
import pytest

from edgebrush.cli.main import run as command
from edgebrush.errors import UserError
from edgebrush.evaluation.episodes import play
from edgebrush.jobs.local import LocalExecutor
from edgebrush.learning import launcher as seeds
from edgebrush.learning import registry as algorithms
from edgebrush.learning.registry import ALGORITHMS, configure, tuned_settings
from edgebrush.scenario.load import fields_hash
from edgebrush.sim.episode_seeds import VALIDATION_SEEDS
from edgebrush.study.train import train_policies
from edgebrush.tuning import hyperparameters as searching
from edgebrush.tuning.hyperparameters import SEEDS, rungs, search_hyperparameters, trial_settings

NAMES = ("mappo", "ippo+common")


@pytest.fixture
def drawn_by_settings(drawn, monkeypatch):
    """Random actors whose seed is the name of the training's folder, a hash of its settings."""
    train_drawn = seeds.train

    def train(scenario, algorithm, config, training_seeds, folder, prices, hear, workers):
        train_drawn(scenario, folder.name, config, training_seeds, folder, prices, hear, workers)

    monkeypatch.setattr(seeds, "train", train)
    monkeypatch.setattr(searching, "TRIAL_EPISODES", 4)
    return drawn


def tiny_search(tiny, out, **changes):
    options = {"algorithms": NAMES, "trials": 4, "decisions": 96, "command": "edgebrush tune-learners"}
    return search_hyperparameters(tiny, out, executor=LocalExecutor(1), **(options | changes))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_trials_start_with_the_defaults_stay_on_the_grid_and_never_repeat(name):
    tried = trial_settings(name, 12)
    usual = configure(name, {}, seconds=None, decisions=None)
    assert tried[0] == {number: getattr(usual, number) for number in ALGORITHMS[name].search_grid}
    assert all(value in ALGORITHMS[name].search_grid[number] for each in tried for number, value in each.items())
    assert len({json.dumps(each) for each in tried}) == 12
    assert trial_settings(name, 5) == tried[:5]  # a longer search continues a shorter one


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        (1, [(1, 900)]),
        (3, [(3, 900)]),
        (9, [(9, 300), (3, 900)]),
        (27, [(27, 100), (9, 300), (3, 900)]),
        (10, [(10, 100), (4, 300), (3, 900)]),
    ],
)
def test_each_rung_keeps_a_third_and_trains_it_three_times_as_long(trials, expected):
    assert rungs(trials, 900) == expected


def read_log(out):
    with open(out.with_suffix(".csv"), newline="") as file:
        return list(csv.DictReader(file))


def mean_costs(rows, name, decisions):
    """Mean cost over the seeds of every trial of a rung, by its number."""
    costs = {}
    for row in rows:
        if (row["algorithm"], row["decisions"]) == (name, str(decisions)):
            costs.setdefault(int(row["trial"]), []).append(float(row["cost"]))
    assert all(len(each) == len(SEEDS) for each in costs.values())
    return {trial: np.mean(each) for trial, each in costs.items()}


def test_every_learner_has_the_same_budget_and_the_cheapest_finalist_is_chosen(
    tiny, quick, drawn_by_settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(searching, "SEED_NOISE", 0.0)
    out = tmp_path / "tuned" / "tiny.json"
    about = tiny_search(tiny, out)
    assert json.loads(out.read_text()) == about and about["scenario"] == fields_hash(tiny)
    rows = read_log(out)
    assert {(row["search_decisions"], row["scenario"]) for row in rows} == {("96", fields_hash(tiny))}
    budgets = [(config.decisions, seed) for _, _, config, seed in drawn_by_settings]
    for seed in SEEDS:
        assert budgets.count((32, seed)) == 4 * len(NAMES) and budgets.count((96, seed)) == 3 * len(NAMES)
    for name in NAMES:
        short, long = mean_costs(rows, name, 32), mean_costs(rows, name, 96)
        assert set(short) == {0, 1, 2, 3}
        assert set(long) == {0, *sorted((1, 2, 3), key=short.get)[:2]}  # the defaults and the two cheapest
        best, trial = about["algorithms"][name], min(long, key=long.get)
        assert best["cost"] == pytest.approx(long[trial]) and best["default_cost"] == pytest.approx(long[0])
        assert best["settings"] == trial_settings(name, 4)[trial]
        assert best["trainings"] == 7 * len(SEEDS)


@pytest.mark.parametrize(("best", "chosen"), [(0.3995, 1e-3), (0.398, 2e-3)])
def test_a_gain_within_the_noise_of_a_seed_does_not_replace_the_defaults(best, chosen, tiny, tmp_path):
    log = searching.TrialLog(tmp_path / "log.csv", tiny, 64)
    finalists = [{"learning_rate": rate} for rate in (1e-3, 2e-3, 3e-3)]
    for trial, (settings, cost) in enumerate(zip(finalists, (0.4, best, 0.5), strict=True)):
        for seed, noise in zip(SEEDS, (-0.01, 0.0, 0.01), strict=True):
            row = {"algorithm": "mappo", "trial": trial, "seed": seed, "decisions": 64, "cost": cost + noise}
            log.add(row | {"settings": json.dumps(settings)})
    found = log.choose("mappo", finalists, 64)
    assert found["settings"] == {"learning_rate": chosen} and found["default_cost"] == pytest.approx(0.4)


def test_a_trial_is_evaluated_on_validation_episodes(tiny, quick, drawn_by_settings, tmp_path, monkeypatch):
    calls = []

    def record(scenario, policy, episode_seeds):
        calls.append((policy, episode_seeds))
        return play(scenario, policy, episode_seeds)

    monkeypatch.setattr(searching, "play", record)
    about = tiny_search(tiny, tmp_path / "out.json", algorithms=["mappo"], trials=1)
    assert len(calls) == len(SEEDS)
    assert all(list(episode_seeds) == [VALIDATION_SEEDS + n for n in range(4)] for _, episode_seeds in calls)
    cost = np.mean([play(tiny, *call)["cost"].mean() for call in list(calls)])
    assert about["algorithms"]["mappo"]["cost"] == pytest.approx(cost, abs=1e-6)


def test_finished_trials_are_not_run_again(tiny, quick, drawn_by_settings, tmp_path, monkeypatch):
    out, train = tmp_path / "out.json", seeds.train

    def interrupted(*arguments):
        if len(drawn_by_settings) == 26:  # in the second rung
            raise KeyboardInterrupt
        train(*arguments)

    monkeypatch.setattr(seeds, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tiny_search(tiny, out)
    assert not out.exists()
    monkeypatch.setattr(seeds, "train", train)
    about = tiny_search(tiny, out)
    whole = len(NAMES) * 7 * len(SEEDS)
    assert len(drawn_by_settings) == whole
    assert tiny_search(tiny, out)["algorithms"] == about["algorithms"]
    assert len(drawn_by_settings) == whole
    more = tiny_search(tiny, out, algorithms=["maa2c+common"])  # one more learner; the others stay in the file
    assert len(drawn_by_settings) == whole + 7 * len(SEEDS)
    assert (
        set(more["algorithms"]) == {*NAMES, "maa2c+common"}
        and more["algorithms"]["ippo+common"] == about["algorithms"]["ippo+common"]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.json"]


def test_a_log_of_another_search_is_refused(tiny, quick, drawn_by_settings, tmp_path):
    out = tmp_path / "out.json"
    tiny_search(tiny, out, algorithms=["mappo"], trials=1)
    with pytest.raises(UserError, match="of 96 decisions, not 97"):
        tiny_search(tiny, out, decisions=97)
    with pytest.raises(UserError, match="another scenario"):
        tiny_search(tiny.model_copy(update={"horizon_s": 21.0}), out)
    out.with_suffix(".csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="holds trials"):
        tiny_search(tiny, out)


def test_invalid_requests_are_errors_before_any_work(tmp_path, capsys):
    out = str(tmp_path / "deep" / "out.json")
    for arguments, message in (
        (["--algorithm", "sarsa"], "algorithm = 'sarsa': not known"),
        (["--trials", "10000000"], "trials = 10000000: mappo has only"),
        (["--trials", "0"], "--trials"),
        (["--decisions", "0"], "--decisions"),
    ):
        assert command(["tune-learners", "pair", "--out", out, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "deep").exists()
    assert command(["tune-learners", "pair", "--out", "/proc/deep/out.json"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_trainings_use_the_chosen_settings_of_their_preset(tiny, rule, monkeypatch, tmp_path):
    monkeypatch.setattr(algorithms, "TUNED", tmp_path)
    assert tuned_settings("tiny", "mappo") == {}
    chosen = {"algorithms": {"mappo": {"settings": {"learning_rate": 5e-4, "epochs": 5}}}}
    (tmp_path / "tiny.json").write_text(json.dumps(chosen))
    assert tuned_settings("tiny", "ippo+common") == {} and tuned_settings("campus", "mappo") == {}
    configs = []
    monkeypatch.setattr(seeds, "train", lambda scenario, algorithm, config, *rest: configs.append(config))
    prices = rule(tiny, "priced-greedy").parameters
    train_policies(tiny, tmp_path / "a", seeds=1, decisions=9, prices=prices)
    train_policies(tiny, tmp_path / "b", seeds=1, decisions=9, prices=prices, settings={"epochs": 2})
    assert [(config.learning_rate, config.epochs) for config in configs] == [(5e-4, 5), (5e-4, 2)]


def test_a_learner_with_a_failed_trial_has_no_settings_until_it_is_tried_again(
    tiny, quick, drawn_by_settings, tmp_path, monkeypatch
):
    out, train = tmp_path / "out.json", seeds.train
    broken = trial_settings("mappo", 3)[1]

    def failing(scenario, algorithm, config, *rest):
        if algorithm == "mappo" and all(getattr(config, name) == value for name, value in broken.items()):
            raise RuntimeError("no good")
        train(scenario, algorithm, config, *rest)

    monkeypatch.setattr(seeds, "train", failing)
    about = tiny_search(tiny, out)
    assert [(each["job"], each["error"]) for each in about["failed_jobs"]] == [
        (f"mappo, trial 1, seed {seed}", "RuntimeError: no good") for seed in SEEDS
    ]
    assert set(about["algorithms"]) == {"ippo+common"} and json.loads(out.read_text()) == about
    monkeypatch.setattr(seeds, "train", train)
    drawn_by_settings.clear()
    again = tiny_search(tiny, out)
    assert set(again["algorithms"]) == set(NAMES) and again["failed_jobs"] == []
    assert len(drawn_by_settings) == (1 + 3) * len(SEEDS)  # what failed, and the rung after it
