"""Polishing: it evaluates as ``play`` does, it repairs absurd biases, and it refuses policies without prices."""

import csv
import json

import numpy as np
import pytest

from edgebrush.cli.main import run as command
from edgebrush.evaluation.episodes import play
from edgebrush.learning.networks import new_actor
from edgebrush.policies.folder import DIFFUSION, load_file, save_policy
from edgebrush.policies.load import load_policy
from edgebrush.sim.simulator import Simulator
from edgebrush.tuning.cmaes import Budget
from edgebrush.tuning.polish import ActorEvaluator, polish, polished_weights, with_polished


@pytest.fixture
def trained(tiny, tmp_path):
    """The folder of a random actor without prices."""
    simulator = Simulator(tiny, 1)
    rng = np.random.default_rng(1)
    actor = new_actor(rng, simulator.layout, 8, tiny.bs_count, None)
    weights = {name: np.asarray(value) for name, value in actor.all_weights().items()}
    weights["b_out"] = rng.normal(0.0, 1.0, weights["b_out"].shape).astype(np.float32)  # absurd biases
    about = {"step_grid": list(tiny.decision.step_grid), "classes": tiny.decision.classes, "seed": 7}
    save_policy(tmp_path / "trained", "drawn", weights, about)
    return tmp_path / "trained"


def test_the_evaluators_costs_are_those_of_the_tasks(tiny, trained):
    actor, seeds = load_policy(trained, tiny), np.arange(8)
    start = polished_weights(actor.weights)
    other = start + 0.3 * np.random.default_rng(0).random(len(start))
    costs = ActorEvaluator(tiny, actor, seeds, 2).costs([start, other])
    for numbers, cost in zip((start, other), costs, strict=True):
        actor.weights = with_polished(actor.weights, numbers)
        assert cost == pytest.approx(play(tiny, actor, seeds)["cost"].mean(), rel=1e-3)
    assert costs[0] != pytest.approx(costs[1], rel=0.01)


def test_a_polished_actor_is_cheaper(tiny, trained, tmp_path):
    before, after = polish(tiny, trained, tmp_path / "polished", Budget(96, 4), "edgebrush polish trained")
    policies = [load_policy(folder, tiny) for folder in (trained, tmp_path / "polished")]
    held_out = 10**7 + np.arange(64)
    costs = [play(tiny, policy, held_out)["cost"].mean() for policy in policies]
    assert after < before and costs[1] < costs[0]
    about = json.loads((tmp_path / "polished" / "policy.json").read_text())
    assert about["name"] == "drawn-polished" and about["seed"] == 7
    assert about["polished"]["cost_before"] == before and about["polished"]["evaluations"] == 96
    with open(tmp_path / "polished" / "polish.csv", newline="") as file:
        assert [int(row["evaluations"]) for row in csv.DictReader(file)] == [16, 32, 48, 64, 80, 96]
    kept, changed = (load_file(folder / "actor.safetensors") for folder in (trained, tmp_path / "polished"))
    same = {name for name in kept if np.array_equal(kept[name], changed[name])}
    assert {"w_in", "w_embed", "w_mean", "w_out", "scale"} <= same and "b_out" not in same


def test_the_command_and_its_errors(tiny, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["polish", "trained", "--scenario", "pair", "--evaluations", "16", "--episodes", "2", "--out"]
    assert command([*arguments, "polished"]) == 0
    assert "before" in capsys.readouterr().out
    assert load_policy(tmp_path / "polished", tiny).name == "drawn-polished"
    assert command([*arguments, "polished"]) == 2
    assert "already exists" in capsys.readouterr().err
    assert command(["polish", "nowhere", *arguments[2:], "other"]) == 2
    assert "nowhere" in capsys.readouterr().err
    about = json.loads((trained / "policy.json").read_text()) | {"kind": DIFFUSION}
    (trained / "policy.json").write_text(json.dumps(about))
    assert command([*arguments, "other"]) == 2
    error = capsys.readouterr().err
    assert "give a policy of kind softmax" in error and "\n" not in error.strip()
    assert not (tmp_path / "other").exists()
