"""Classes of your own on the command line: in `compare`'s table, in `evaluate`, `train` and `testbed`."""

import json

import pytest

from edgebrush.cli.main import run

HERE = "tests.support.plugins"
RUN = ["--episodes", "2"]


def results(folder):
    return json.loads((folder / "results.json").read_text())["policies"]


def test_a_policy_stands_in_compares_table(tmp_path, capsys):
    out = tmp_path / "run"
    own = ["--policy", f"{HERE}:SelfishPolicy", "--policy", f"{HERE}:FixedPolicy:5"]
    assert run(["compare", "pair", "--seeds", "0", *own, "--out", str(out), *RUN]) == 0
    policies = results(out)
    assert policies["selfish-of-mine"]["cost"] == policies["selfish-greedy"]["cost"]
    assert "always-5" in policies and "priced-greedy" in policies
    assert "selfish-of-mine" in capsys.readouterr().out
    assert "selfish-of-mine" in (out / "report.html").read_text()


def test_a_policy_is_called_what_the_user_calls_it(tmp_path):
    """So an older MAPPO can stand beside the one that compare trains."""
    out = tmp_path / "run"
    own = ["--policy", f"old={HERE}:LikeMappo"]
    assert run(["compare", "pair", "--seeds", "0", *own, "--out", str(out), *RUN]) == 0
    assert {"old", "priced-greedy"} <= set(results(out))


def test_evaluate_takes_classes_rules_and_folders(tmp_path):
    out = tmp_path / "run"
    policies = [f"{HERE}:SelfishPolicy", "selfish-greedy", f"{HERE}:FixedPolicy:3"]
    assert run(["evaluate", *policies, "--scenario", "pair", "--out", str(out), *RUN]) == 0
    assert set(results(out)) == {"selfish-of-mine", "selfish-greedy", "always-3"}


@pytest.mark.process
def test_a_learner_is_trained_on_several_seeds_and_its_policies_evaluated(tmp_path, capsys):
    trained = tmp_path / "trained"
    options = ["--algorithm", f"{HERE}:CountingLearner", "--set", "choice=4", "--decisions", "50", "--seeds", "2"]
    assert run(["train", "pair", "--out", str(trained), *options]) == 0
    assert f"policy: {trained / 'seed-2'}" in capsys.readouterr().out
    assert (trained / "curve.csv").read_text().count("\n") == 11  # a header, and five updates of each seed
    out = tmp_path / "run"
    policies = [f"{HERE}:FixedPolicy:{trained / f'seed-{seed}'}" for seed in (1, 2)]
    assert run(["evaluate", *policies, "--scenario", "pair", "--out", str(out), *RUN]) == 0
    assert set(results(out)) == {"always-5", "always-6"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "pair", "--policy", f"{HERE}:Nothing"], "module 'tests.support.plugins' has no 'Nothing'"),
        (["compare", "pair", "--policy", f"{HERE}:LikeMappo"], "one is called mappo, which compare trains itself"),
        (["compare", "pair", "--policy", f"lyapunov={HERE}:LikeMappo"], "lyapunov is the name of a rule"),
        (["compare", "pair", "--policy", "nowhere"], "policy 'nowhere': neither a folder"),
        (["evaluate", "nowhere:Mine", "--scenario", "pair"], "module 'nowhere' is not found"),
        (["evaluate", f"{HERE}:OutOfRange", "--scenario", "pair", *RUN], "choose returned 10000"),
        (["testbed", "--policies", f"{HERE}:Nothing"], "has no 'Nothing'"),
        (["train", "pair", "--algorithm", f"{HERE}:WithoutConfig", "--out", "out"], "its attribute config must be"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and message in error[0]
    assert [path.name for path in tmp_path.rglob("*")] in ([], ["runs"])


@pytest.mark.process
def test_the_testbeds_agents_load_the_class_themselves(tmp_path):
    out = tmp_path / "run"
    assert run(["testbed", "--policies", f"{HERE}:SelfishPolicy", "--seconds", "4", "--out", str(out)]) == 0
    assert set(results(out)) == {"selfish-of-mine"}
    (counts,) = json.loads((out / "results.json").read_text())["testbed"]["rounds"].values()
    assert counts["images"] > 0 and counts["errors"] == 0
