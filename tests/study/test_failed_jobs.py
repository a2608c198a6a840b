"""What failed, killed and interrupted jobs cost a study on a tiny scenario, and how it is reported."""

import json
import os
import signal
import threading

import pytest

from edgebrush.cli.main import run as command
from edgebrush.learning import launcher as seeds
from edgebrush.policies.rules import KINDS
from edgebrush.study import jobs as study_jobs
from edgebrush.study.variations import SWEEPS
from tests.support.study import read, tiny_study


def failing(monkeypatch, fails):
    """Trainings for whose arguments ``fails`` is true raise an error."""
    train = seeds.train

    def broken(scenario, algorithm, config, training_seeds, *rest):
        if fails(scenario, algorithm, *training_seeds):
            raise RuntimeError(f"training of {algorithm} failed:\nValueError: no | good")
        train(scenario, algorithm, config, training_seeds, *rest)

    monkeypatch.setattr(seeds, "train", broken)
    return train


def test_a_failed_training_costs_only_its_seed_and_is_reported(tiny, drawn, tmp_path, monkeypatch):
    options = {"figures": ["comparison", "load"], "algorithms": ["mappo", "ippo+common"]}
    point = f"tiny-load-{SWEEPS['load'].factors[0]:g}".replace(".", "-")
    lost = [("tiny", "mappo", 2), (point, "ippo+common", 1), (point, "ippo+common", 2)]
    train = failing(monkeypatch, lambda scenario, algorithm, seed: (scenario.name, algorithm, seed) in lost)
    findings = tiny_study(tiny, tmp_path, **options)
    titles = {f"{algorithm} seed {seed} on {scenario}" for scenario, algorithm, seed in lost}
    assert {failure.job for failure in findings.failures} == titles
    results = json.loads((tmp_path / "results.json").read_text())
    assert {each["job"] for each in results["failed_jobs"]} == titles
    assert json.loads((tmp_path / "study.json").read_text())["failed_jobs"] == results["failed_jobs"]
    assert len(results["policies"]["mappo"]["training_seeds"]["cost"]) == 2
    assert len(results["policies"]["ippo+common"]["training_seeds"]["cost"]) == 3
    rows = read(tmp_path / "figures" / "load.csv")
    assert {(row["policy"], row["load"]) for row in rows if row["policy"] == "ippo+common"} == {
        ("ippo+common", f"{SWEEPS['load'].value(tiny):.6g}")
    }
    # Over all points: only those on which every policy has all its seeds.
    assert list(findings.means) == ["tiny-as-it-is", point] and findings.complete_points == ["tiny-as-it-is"]
    assert findings.relative_runs()["ippo+common"].shape == (2, 1)
    text = (tmp_path / "study.md").read_text()
    assert "This study is incomplete" in text and "| mappo seed 2 on tiny | ValueError: no \\| good |" in text
    assert "This study is incomplete" in (tmp_path / "study.html").read_text()

    monkeypatch.setattr(seeds, "train", train)
    drawn.clear()
    again = tiny_study(tiny, tmp_path, **options)
    assert not again.failures and len(drawn) == 3  # only what is missing
    assert "failed_jobs" not in json.loads((tmp_path / "results.json").read_text())
    assert "incomplete" not in (tmp_path / "study.md").read_text()


def test_without_the_learner_that_the_study_is_about_the_rules_results_are_written(tiny, drawn, tmp_path, monkeypatch):
    failing(monkeypatch, lambda scenario, algorithm, seed: algorithm == "mappo")
    findings = tiny_study(tiny, tmp_path, figures=["comparison", "ablations"], algorithms=["mappo"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(KINDS) <= set(results["policies"]) and "mappo" not in results["policies"]
    assert not (tmp_path / "figures").exists() and "This study is incomplete" in (tmp_path / "study.md").read_text()
    assert findings.failures


def test_a_rule_that_cannot_be_tuned_costs_only_what_needs_it(tiny, drawn, tmp_path, monkeypatch):
    tune_rule, point = study_jobs.tune, f"tiny-load-{SWEEPS['load'].factors[0]:g}".replace(".", "-")
    lost = [("tiny", "lyapunov"), (point, "priced-greedy")]

    def broken(scenario, rule, *rest):
        if (scenario.name, rule) in lost:
            raise ValueError("cannot be tuned")
        return tune_rule(scenario, rule, *rest)

    monkeypatch.setattr(study_jobs, "tune", broken)
    findings = tiny_study(tiny, tmp_path, figures=["comparison", "load", "decisions"], algorithms=["mappo"])
    assert {failure.job for failure in findings.failures} == {f"{rule} on {name}" for name, rule in lost}
    assert "lyapunov" not in findings.results["policies"] and "mappo" in findings.results["policies"]
    assert set(findings.means) == {"tiny-as-it-is"}  # costs at the other point are relative to a rule that is missing
    assert point not in {scenario.name for scenario, *_ in drawn}
    for name in ("comparison", "load", "decisions"):
        assert (tmp_path / "figures" / f"{name}.png").is_file()


def test_the_command_reports_failed_jobs_and_exits_with_1(drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    failing(monkeypatch, lambda scenario, algorithm, seed: seed == 2)
    arguments = ["reproduce", "pair", "--quick", "--only", "comparison", "--algorithm", "mappo", "--seeds", "3"]
    assert command(arguments) == 1
    captured = capsys.readouterr()
    assert "failed: mappo seed 2 on pair: ValueError: no | good" in captured.err.splitlines()
    assert "incomplete: 1 jobs failed" in captured.err
    assert {line.split()[0] for line in captured.out.splitlines()[:-1]} == {"mappo", *KINDS}


@pytest.mark.process
def test_sigterm_interrupts_the_study_and_its_trainings_save_checkpoints(tmp_path, monkeypatch, capsys):
    run_worker, begun = seeds.run_worker, threading.Event()

    def watched(folder, seed, workers, progress):
        def report(row):
            begun.set()
            progress(row)

        run_worker(folder, seed, workers, report)

    def terminate():
        assert begun.wait(200)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(seeds, "run_worker", watched)
    threading.Thread(target=terminate, daemon=True).start()
    options = ["--only", "convergence", "--algorithm", "mappo", "--seeds", "2", "--jobs", "1", "--out", str(tmp_path)]
    assert command(["reproduce", "pair", *options]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"
    assert list(tmp_path.glob("cache/trainings/*/checkpoint/seed-1.npz"))
    assert not (tmp_path / "results.json").exists()
