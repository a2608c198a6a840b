"""The study on a tiny scenario, with random actors instead of trained ones, so that the tests are fast."""

import json
import math
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgebrush.cli.main import run as command
from edgebrush.errors import UserError
from edgebrush.jobs import keys
from edgebrush.jobs.local import LocalExecutor
from edgebrush.learning import launcher as seeds
from edgebrush.learning.registry import LIKE_FOR_LIKE
from edgebrush.plotting import style
from edgebrush.policies.rules import KINDS, Rule
from edgebrush.study import runner as running
from edgebrush.study.figures import FIGURES
from edgebrush.study.jobs import PlayJob, TuningJob, VariationPlayJob
from edgebrush.study.reproduce import reproduce
from edgebrush.study.runner import StudyRunner
from edgebrush.study.variations import SWEEPS, ablations, fixed_decisions
from edgebrush.tuning.rules import tune
from tests.support.study import PLAN, read, tiny_study


def test_a_full_study(tiny, drawn, tmp_path):
    findings = tiny_study(
        tiny, tmp_path / "study", algorithms=["masl+common", "masl"], command="edgebrush reproduce mine.yaml"
    )
    folder = tmp_path / "study"
    results = json.loads((folder / "results.json").read_text())
    taken = {each.name for each in findings.ablations}
    assert set(results["policies"]) == {"mappo", "masl", "masl+common", *KINDS, *taken}
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*(\+common)?", name) for name in results["policies"])
    assert results["episodes"] == 6 and results["command"] == "edgebrush reproduce mine.yaml"
    assert len(results["policies"]["mappo"]["training_seeds"]["cost"]) == 3
    assert results["policies"]["mappo-one-class"]["less_than"]["mappo"]["relative"]["ci_low"] <= 1.0
    # All policies play the same tasks, also in the scenarios of the ablations.
    tasks = {name: group[0].total("tasks") for name, group in findings.played.items()}
    assert all((each == tasks["mappo"]).all() for each in tasks.values())
    for name in FIGURES:
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert read(folder / "figures" / f"{name}.csv")
    about = json.loads((folder / "study.json").read_text())
    assert about["training_seeds"] == [1, 2, 3] and about["finished"] >= about["started"]
    assert about["plan"]["decisions"] == 64 and "jax" in about["versions"]
    page = (folder / "study.html").read_text()
    assert "http" not in re.sub(r"base64,[^\"]*", "", page) and "{{" not in page
    markdown = (folder / "study.md").read_text()
    assert all(f"| {name} |" in markdown for name in ("masl+common", *KINDS, *taken))
    parts = {part.splitlines()[0]: part for part in markdown.split("## ")}
    published, ours = parts["Rivals as published, on tiny"], parts["Rivals with all of ours, on tiny"]
    assert "| mappo |" in published and "| masl |" in published and "| masl+common |" not in published
    assert "| mappo |" in ours and "| masl+common |" in ours and "| masl |" not in ours
    assert "| mappo | 3 | 64 | 0.5200 | 0.5200 | 100% |" in parts["Trainings on tiny"]
    assert {path.name for path in folder.iterdir()} == {
        "cache",
        "figures",
        "results.json",
        "scenario.yaml",
        "study.html",
        "study.json",
        "study.md",
    }


def test_a_study_has_every_learner_by_default(tiny, tmp_path, monkeypatch):
    trained = []

    def record(jobs, executor, phase, progress):
        trained.extend(job.name for job in jobs if hasattr(job, "seed"))
        raise KeyboardInterrupt

    monkeypatch.setattr(StudyRunner, "_tune", lambda runner, scenarios, fixed, ablate: [])
    monkeypatch.setattr(StudyRunner, "_rule", lambda runner, scenario, name: Rule(name, np.zeros(3), None))
    monkeypatch.setattr(running, "run_jobs", record)
    with pytest.raises(KeyboardInterrupt):
        tiny_study(tiny, tmp_path, figures=["comparison"])
    assert {name: trained.count(name) for name in trained} == dict.fromkeys(LIKE_FOR_LIKE, 3)


def test_a_figure_shows_the_rows_of_its_csv(tiny, drawn, tmp_path):
    findings = tiny_study(tiny, tmp_path, figures=["load", "convergence"], algorithms=["mappo"])
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"load", "convergence"}
    rows = read(tmp_path / "figures" / "load.csv")
    with style():
        panels = FIGURES["load"].plot(FIGURES["load"].rows(findings)).axes
    for metric, panel in zip(["relative_cost", "cost", "delay_s"], panels[:3], strict=True):
        lines = {line.get_label(): line for line in panel.get_lines()}
        for policy in ("mappo", *KINDS):
            mine = [row for row in rows if row["policy"] == policy]
            xs, ys = lines[policy].get_data()
            assert len(xs) == 2
            for x, y in zip(xs, ys, strict=True):
                here = [float(row[metric]) for row in mine if float(row["load"]) == pytest.approx(x)]
                assert len(here) == (1 if policy in KINDS else 2)
                assert y == pytest.approx(np.mean(here))
    assert {float(row["relative_cost"]) for row in rows if row["policy"] == "priced-greedy"} == {1.0}
    curve = [row for row in read(tmp_path / "figures" / "convergence.csv") if row["policy"] == "mappo"]
    assert [int(row["decisions"]) for row in curve] == [32, 64]
    assert [float(row["cost"]) for row in curve] == pytest.approx([1.02, 0.52])  # of three runs none is trimmed


def test_finished_jobs_are_not_run_again(tiny, drawn, tmp_path, monkeypatch):
    options = {"figures": ["comparison"], "algorithms": ["mappo"]}
    first = tiny_study(tiny, tmp_path, **options)
    assert len(drawn) == 3
    again = tiny_study(tiny, tmp_path, **options)
    assert len(drawn) == 3
    assert again.results["policies"] == first.results["policies"]
    about = json.loads((tmp_path / "study.json").read_text())
    assert set(about["done_anew"].values()) == {0}
    # Everything that a training depends on is part of its key.
    longer = replace(PLAN, decisions=65)
    reproduce(tiny, tmp_path, longer, executor=LocalExecutor(1), **options)
    assert len(drawn) == 6
    busier = tiny.model_copy(update={"broadcast_interval_s": 3.0})
    reproduce(busier, tmp_path, PLAN, executor=LocalExecutor(1), **options)
    assert len(drawn) == 9
    monkeypatch.setattr(keys, "FORMAT", keys.FORMAT + 1)
    tiny_study(tiny, tmp_path, **options)
    assert len(drawn) == 12


def test_an_interruption_loses_at_most_the_running_jobs(tiny, drawn, tmp_path, monkeypatch):
    train, calls, lock = seeds.train, [], threading.Lock()

    def interrupted(*arguments):
        with lock:
            calls.append(arguments)
            if len(calls) == 4:
                raise KeyboardInterrupt
        train(*arguments)

    monkeypatch.setattr(seeds, "train", interrupted)
    options = {"figures": ["ues"], "algorithms": ["mappo"]}  # 3 + 2 × 2 trainings
    with pytest.raises(KeyboardInterrupt):
        reproduce(tiny, tmp_path, PLAN, executor=LocalExecutor(1), **options)
    assert len(drawn) == 3 and not (tmp_path / "results.json").exists()
    monkeypatch.setattr(seeds, "train", train)
    reproduce(tiny, tmp_path, PLAN, executor=LocalExecutor(1), **options)
    assert len(drawn) == 7 and (tmp_path / "results.json").exists()


def test_variations_and_ablations_differ_in_one_field(tiny):
    base = tiny.model_dump(exclude={"name"})
    touched = {"ues": "ues", "load": "arrivals", "bandwidth": "bss", "speed": "bss"}
    for name, sweep in SWEEPS.items():
        point = sweep.variation(tiny, 2.0)
        assert sweep.value(point) == pytest.approx(2.0 * sweep.value(tiny))
        differs = {field for field, value in point.model_dump(exclude={"name"}).items() if value != base[field]}
        assert differs == {touched.get(name, "requests")}
    worlds = {each.name: each.scenario(tiny) for each in ablations(15)}
    assert worlds["mappo-one-step-count"].decision.step_grid == (15,)
    assert worlds["mappo-one-class"].decision.classes == 1
    assert worlds["mappo-nearest-bs"].decision.neighbours == 1 and worlds["mappo-nearest-bs"].decision.local
    assert worlds["mappo-no-broadcast"].broadcast_interval_s == math.inf
    assert all(worlds[name] is tiny for name in ("ippo+common", "mappo-plain", "mappo-no-prices", "mappo-as-explored"))


def test_all_points_of_a_sweep_have_the_same_trainings(tiny, drawn, tmp_path):
    tiny_study(tiny, tmp_path, figures=["load"], algorithms=["mappo"])
    trained = {}
    for scenario, _, config, seed in drawn:
        trained.setdefault((scenario.name, config.decisions), []).append(seed)
    trained = {key: sorted(group) for key, group in trained.items()}
    point = f"tiny-load-{SWEEPS['load'].factors[0]:g}".replace(".", "-")
    assert trained == {("tiny", 64): [1, 2, 3], ("tiny-as-it-is", 32): [1, 2], (point, 32): [1, 2]}


def test_cached_plays_of_a_variation_need_no_training(tiny, drawn, tmp_path):
    options = {"figures": ["load"], "algorithms": ["mappo"]}
    here, there = tmp_path / "here", tmp_path / "there"
    first = tiny_study(tiny, here, **options)
    for part in ("rules", "plays"):
        shutil.copytree(here / "cache" / part, there / "cache" / part)
    drawn.clear()
    again = tiny_study(tiny, there, **options)
    assert {scenario.name for scenario, *_ in drawn} == {"tiny"}  # its curves are drawn
    assert again.means == first.means and (there / "figures" / "load.csv").is_file()


def test_the_means_of_a_variation_are_those_of_the_digest(tiny, rule, tmp_path):
    policy = rule(tiny, "priced-greedy")
    full, means_only = (kind(tiny, policy.name, policy, 3, tmp_path) for kind in (PlayJob, VariationPlayJob))
    for job in (full, means_only):
        job.run(lambda share: None, [])
    digest, means = full.read(), means_only.read()
    assert means["cost"] == pytest.approx(digest.total("cost").sum() / digest.total("tasks").sum())
    assert means["delay_s"] == pytest.approx(digest.total("delay_s").sum() / digest.total("completed").sum())


def test_ablations_train_with_their_scenario_and_settings(tiny, drawn, tmp_path):
    findings = tiny_study(tiny, tmp_path, figures=["ablations"], algorithms=["mappo"])
    trained = {}
    for scenario, algorithm, config, _ in drawn:
        key = (scenario.name, algorithm, config.init_from_rule, config.deploy_inverse_temperature)
        trained.setdefault(key, []).append(config)
    assert all(len(group) == 3 for group in trained.values())
    expected = {("tiny", "ippo+common", True, 4.0), ("tiny", "mappo", False, 4.0), ("tiny", "mappo", True, 1.0)}
    assert expected < set(trained)
    assert {name for name, *_ in trained} == {
        "tiny",
        "tiny-one-step-count",
        "tiny-one-class",
        "tiny-nearest-bs",
        "tiny-no-broadcast",
    }
    rows = {row["policy"]: row for row in read(tmp_path / "figures" / "ablations.csv")}
    costs = {name: findings.results["policies"][name]["cost"]["mean"] for name in (*rows, "mappo")}
    for name, row in rows.items():
        assert float(row["more"]) == pytest.approx(costs[name] / costs["mappo"] - 1.0)


def test_the_decisions_figure_tunes_the_best_rule_with_one_decision_fixed(tiny, drawn, tmp_path):
    findings = tiny_study(tiny, tmp_path, figures=["decisions"], algorithms=["mappo"])
    rows = read(tmp_path / "figures" / "decisions.csv")
    steps = [("steps", str(count)) for count in tiny.decision.step_grid]
    assert [(row["fixed"], row["value"]) for row in rows] == [
        ("nothing", ""),
        ("place", "own device"),
        ("place", "nearest BS"),
        *steps,
        ("class", "one class"),
    ]
    for row, fixed in list(zip(rows, fixed_decisions(tiny), strict=True))[:3]:
        cost = tune(fixed.scenario(tiny), "priced-greedy", PLAN.budget).cost
        assert float(row["cost"]) == pytest.approx(cost, abs=1e-5)
        assert float(row["more"]) == pytest.approx(cost / findings.fixed_costs[0][1] - 1.0, abs=1e-5)
    assert len({row["cost"] for row in rows}) > 3
    about = json.loads((tmp_path / "study.json").read_text())
    assert about["done_anew"]["tuning the rules"] == len(KINDS) + len(rows)
    # The ablations with one step count and with one class share their jobs with the figure.
    jobs = {TuningJob(each.scenario(tiny), "priced-greedy", PLAN.budget, tmp_path).path for each in ablations(15)[:2]}
    fixed = {
        TuningJob(each.scenario(tiny), "priced-greedy", PLAN.budget, tmp_path).path for each in fixed_decisions(tiny)
    }
    assert jobs < fixed


def test_a_fixed_decision_changes_the_decision_alone(tiny):
    base = tiny.model_dump(exclude={"name"})
    decisions = {}
    for fixed in fixed_decisions(tiny):
        scenario = fixed.scenario(tiny)
        differs = {field for field, value in scenario.model_dump(exclude={"name"}).items() if value != base[field]}
        assert differs == (set() if fixed.decision == "nothing" else {"decision"})
        decisions[fixed.value] = scenario.decision
    assert decisions["own device"].neighbours == 0 and decisions["own device"].local
    assert decisions["nearest BS"].neighbours == 1 and not decisions["nearest BS"].local
    assert decisions["15"].step_grid == (15,) and decisions["one class"].classes == 1
    stationary = tiny.model_copy(update={"decision": tiny.decision.model_copy(update={"local": False})})
    assert "own device" not in [fixed.value for fixed in fixed_decisions(stationary)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "loads"], "figure = 'loads': not known; it must be one of convergence, "),
        (["--algorithm", "sarsa"], "algorithm = 'sarsa': not known"),
        (["--jobs", "0"], "--jobs"),
        (["--seeds", "1"], "--seeds"),
        (["--out", "/proc/study"], "cannot be written"),
        (["--out", "precious"], "not the folder of a study"),
        (["--out", "precious/thesis.tex"], "is a file"),
        (["--out", "carried"], "out = 'carried/cache': cannot be written"),
    ],
)
def test_invalid_requests_are_errors_before_any_work(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("precious").mkdir()
    Path("precious/thesis.tex").write_text("42")
    Path("carried").mkdir()
    Path("carried/cache").write_text("a file")
    assert command(["reproduce", "pair", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "\n" not in error.strip()
    assert Path("precious/thesis.tex").read_text() == "42"
    assert not Path("runs").exists()


def test_the_command(drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["reproduce", "pair", "--quick", "--only", "comparison", "--algorithm", "mappo", "--seeds", "3"]
    assert command(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[:-1]} == {"mappo", *KINDS}
    assert lines[-1].startswith("study: runs/study-pair-quick/study.html")
    assert Path("runs/study-pair-quick/figures/comparison.csv").is_file()
    assert sorted((config.decisions, seed) for _, _, config, seed in drawn) == [(200_000, n) for n in (1, 2, 3)]


def test_an_invalid_variation_is_named(tiny):
    with pytest.raises(UserError, match="tiny with load-1e\\+09"):
        SWEEPS["load"].variation(tiny, 1e9)
