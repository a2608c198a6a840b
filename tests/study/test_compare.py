"""Compare and evaluate on a tiny scenario: the run folder, its numbers, interruptions, and the commands."""

import csv
import json

import numpy as np
import pytest

from edgebrush.cli.main import run as command
from edgebrush.errors import UserError
from edgebrush.evaluation.episodes import play
from edgebrush.evaluation.run_folder import load_run, store_scenario
from edgebrush.evaluation.statistics import COST_TERMS
from edgebrush.policies.rules import KINDS
from edgebrush.scenario.capacity import offered_load
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.variants import with_overrides
from edgebrush.sim.episode_seeds import HELD_OUT_SEEDS
from edgebrush.study.compare import compare, evaluate

EPISODES = 8


@pytest.fixture
def rules_run(tiny, quick, tmp_path):
    compare(tiny, tmp_path / "run", seeds=0, episodes=EPISODES, tasks_csv=True)
    return tmp_path / "run"


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_run_folder(tiny, rules_run):
    results = json.loads((rules_run / "results.json").read_text())
    assert set(results["policies"]) == set(KINDS)
    for figures in results["policies"].values():
        assert figures["cost"]["ci_low"] <= figures["cost"]["mean"] <= figures["cost"]["ci_high"]
        terms = sum(figures[term]["mean"] for term in COST_TERMS)
        assert terms == pytest.approx(figures["cost"]["mean"])
        assert set(figures["less_than"]) == set(KINDS) - {n for n, f in results["policies"].items() if f is figures}
    assert results["episodes"] == EPISODES
    assert load_scenario(rules_run / "scenario.yaml").model_dump() == tiny.model_dump()
    for name in ("differences", "cost-split", "choices", "delay", "load"):
        assert (rules_run / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert leftovers(rules_run.parent) == ["run"]


def test_results_are_those_of_the_episodes(tiny, rule, rules_run):
    seeds = HELD_OUT_SEEDS + np.arange(EPISODES)
    outcomes = play(tiny, rule(tiny, "selfish-greedy"), seeds)
    figures = load_run(rules_run).results["policies"]["selfish-greedy"]
    assert figures["cost"]["mean"] == pytest.approx(outcomes["cost"].mean())
    with open(rules_run / "tasks.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["policy"] == "selfish-greedy"]
    assert len(rows) == len(outcomes)
    assert sum(float(row["cost"]) for row in rows) == pytest.approx(outcomes["cost"].sum())


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("phase", ["tuning the rules", "playing held-out episodes", "drawing the report"])
def test_a_stopped_run_leaves_no_files(tiny, quick, tmp_path, stop, phase):
    def interrupt(at, share, note):
        if at == phase:
            raise stop

    with pytest.raises(stop):
        compare(tiny, tmp_path / "deep" / "run", seeds=0, episodes=EPISODES, progress=interrupt)
    assert leftovers(tmp_path / "deep") == []


def test_an_existing_run_is_replaced_only_with_overwrite_and_only_by_a_complete_one(tiny, quick, rules_run):
    before = (rules_run / "results.json").read_text()
    with pytest.raises(UserError, match="already exists"):
        compare(tiny, rules_run, seeds=0, episodes=EPISODES)

    def interrupt(at, share, note):
        if at == "drawing the report":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(tiny, rules_run, seeds=0, episodes=EPISODES, overwrite=True, progress=interrupt)
    assert (rules_run / "results.json").read_text() == before
    evaluate(tiny, ["random", "local-only"], rules_run, episodes=EPISODES, overwrite=True)
    assert set(load_run(rules_run).results["policies"]) == {"random", "local-only"}
    assert leftovers(rules_run.parent) == ["run"]


def test_a_folder_that_is_not_a_run_is_never_replaced(tiny, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("42")
    with pytest.raises(UserError, match="not empty and not a run folder"):
        compare(tiny, tmp_path / "precious", seeds=0, overwrite=True)
    assert (tmp_path / "precious" / "thesis.tex").read_text() == "42"


def test_an_unwritable_place_is_an_error_before_any_work(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    reports = []
    with pytest.raises(UserError, match="cannot be written"):
        compare(tiny, tmp_path / "file" / "run", seeds=0, progress=lambda *report: reports.append(report))
    assert reports == []


def test_arrivals_are_scaled_to_the_requested_load(tiny):
    assert offered_load(with_overrides(tiny, load=1.25)) == pytest.approx(1.25)
    assert with_overrides(tiny) is tiny
    with pytest.raises(UserError, match="load"):
        with_overrides(tiny, load=-1.0)


def test_a_trace_replaces_the_arrivals(tiny, tmp_path):
    lines = [f"2024-11-15 16:{m:02d}:{s:02d},user-{(m * 7 + s) % 9},1" for m in range(40) for s in (3, 17, 41)]
    trace = tmp_path / "requests.csv"
    trace.write_text("\n".join(["gmt_create,groupId,num_images_per_prompt", *lines]))
    replayed = with_overrides(tiny, trace=trace)
    assert replayed.task_rate_hz == pytest.approx(tiny.task_rate_hz)
    assert offered_load(with_overrides(tiny, trace=trace, load=0.8)) == pytest.approx(0.8)
    run = evaluate(replayed, ["random"], tmp_path / "run", episodes=4)
    assert (tmp_path / "run" / "requests.csv").read_text() == trace.read_text()
    trace.unlink()
    (tmp_path / "run").rename(tmp_path / "moved")  # all that a run needs is in its folder
    assert load_run(tmp_path / "moved").scenario.task_rate_hz == pytest.approx(replayed.task_rate_hz)
    assert "requests.csv" in (tmp_path / "moved" / "report.html").read_text()
    assert run.results["policies"]["random"]["cost"]["mean"] > 0


def test_the_commands_evaluate_report_and_compare(tiny, quick, tmp_path, capsys):
    store_scenario(tiny, tmp_path)
    scenario, out = str(tmp_path / "scenario.yaml"), str(tmp_path / "run")
    chosen = [
        "evaluate",
        "local-only",
        "selfish-greedy",
        "--scenario",
        scenario,
        "--episodes",
        "4",
        "--out",
        out,
    ]
    assert command(chosen) == 0
    assert "selfish-greedy" in capsys.readouterr().out
    assert command(["report", out]) == 0
    assert command(chosen) == 2
    assert "already exists" in capsys.readouterr().err
    assert command(["evaluate", "no-such-rule", "--scenario", scenario]) == 2
    assert "no-such-rule" in capsys.readouterr().err
    assert command(["report", str(tmp_path / "nowhere")]) == 2
    assert "no run" in capsys.readouterr().err
    assert command(["compare", scenario, "--seeds", "-1", "--out", out + "2"]) == 2
    assert command(["compare", scenario, "--episodes", "1", "--out", out + "2"]) == 2
    assert not (tmp_path / "run2").exists()


@pytest.mark.process
def test_mappo_is_trained_compared_and_evaluated_again(tiny, quick, tmp_path):
    out = tmp_path / "run"
    run = compare(tiny, out, seeds=2, decisions=2 * 32_768, episodes=EPISODES)
    figures = run.results["policies"]["mappo"]
    assert len(figures["training_seeds"]["cost"]) == 2
    assert figures["cost"]["mean"] == pytest.approx(np.mean(figures["training_seeds"]["cost"]))
    assert (out / "figures" / "learning-curve.png").is_file()
    assert {row["seed"] for row in run.curve} == {1.0, 2.0}
    policies = [out / "policies" / "mappo" / f"seed-{seed}" for seed in (1, 2)]
    again = evaluate(tiny, policies, tmp_path / "again", episodes=EPISODES)
    assert again.results["policies"]["mappo"]["cost"] == figures["cost"]
    assert again.subject == "mappo" and run.subject == "mappo"
    with pytest.raises(UserError):
        evaluate(load_scenario("campus"), policies, tmp_path / "other")  # another step grid
