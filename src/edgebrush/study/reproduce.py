"""The study: every learner and every rule on a scenario, on variations of it, and with one ingredient removed.

Rules are tuned and learners trained anew on every variation, all learners with the same number of decisions, and all
policies play the same held-out episodes. An interrupted study resumes: the results of finished jobs are in its cache.
A failed job costs only what depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from edgebrush.errors import UserError
from edgebrush.evaluation.held_out import default_episodes
from edgebrush.evaluation.results import Stopwatch
from edgebrush.evaluation.run_folder import RESULTS, store_scenario
from edgebrush.files import check_writable, write_text
from edgebrush.jobs.executor import Executor
from edgebrush.learning.registry import ALGORITHMS, LIKE_FOR_LIKE, algorithm_of
from edgebrush.progress import ProgressCallback, no_progress
from edgebrush.scenario.parameters import check_usable
from edgebrush.scenario.schema import Scenario

from .figures import FIGURES, draw, drawable
from .findings import SUBJECT, Findings, Plan
from .runner import StudyRunner, seeds
from .tables import tables, write_tables
from .variations import SWEEPS

STUDY, CACHE = "study.json", "cache"


def reproduce(
    scenario: Scenario,
    out: Path | str,
    plan: Plan = Plan(),
    *,
    figures: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    executor: Executor,
    command: str = "edgebrush reproduce",
    progress: ProgressCallback = no_progress,
) -> Findings:
    """Run or resume the study; ``out`` then holds figures with their CSV, tables and ``results.json``.

    ``figures`` and ``algorithms`` restrict the study to these names; the default is all. ``executor`` runs the jobs.
    Where some fail, the findings list them in ``failures``, and ``out`` holds the results that do not depend on them,
    marked as incomplete; the same study again runs only what is missing. Raises ``UserError`` before any job where a
    name is unknown or ``out`` cannot be used.
    """
    figures, learners = _select(figures, algorithms)
    check_usable(scenario)
    plan = replace(plan, episodes=plan.episodes or default_episodes(scenario))
    folder = _open_folder(Path(out))
    stopwatch = Stopwatch()
    about: dict = {
        "command": command,
        "started": _now(),
        "finished": None,
        "scenario": scenario.name,
        "plan": asdict(plan),
        "figures": list(figures),
        "algorithms": list(learners),
    }
    write_text(folder / STUDY, json.dumps(about, indent=2))
    store_scenario(scenario, folder)
    runner = StudyRunner(scenario, plan, folder / CACHE, executor, progress, stopwatch)
    sweeps = [name for name in SWEEPS if name in figures or "profiles" in figures]
    findings = runner.run(learners, sweeps, ablate="ablations" in figures, fix="decisions" in figures)
    failed = [asdict(failure) for failure in findings.failures]
    findings.results |= {"command": command, "aggregates": findings.aggregates()}
    if failed:
        findings.results["failed_jobs"] = failed
    figures = [name for name in drawable(findings) if name in figures]
    with stopwatch("report"):
        for number, name in enumerate(figures):
            progress("drawing figures", number / len(figures), name)
            draw(name, findings, folder / "figures")
        write_tables(tables(findings), findings, figures, folder)
    findings.results["timings_s"] = stopwatch.seconds
    write_text(folder / RESULTS, json.dumps(findings.results, indent=2))
    about |= {"finished": _now(), "training_seeds": list(seeds(plan.seeds)), "done_anew": runner.jobs_run}
    about |= {"failed_jobs": failed, "training_s": runner.training_s()}
    about |= {key: findings.results.get(key) for key in ("versions", "machine", "timings_s")}
    write_text(folder / STUDY, json.dumps(about, indent=2))
    progress("drawing figures", 1.0, "")
    return findings


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _select(figures: Sequence[str], algorithms: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The figures and learners of the study, in their usual order. Raises ``UserError`` for an unknown name."""
    for figure in figures:
        if figure not in FIGURES:
            raise UserError(f"figure = {figure!r}: not known; it must be one of {', '.join(FIGURES)}")
    for name in algorithms:
        algorithm_of(name)
    wanted = (*algorithms, SUBJECT) if algorithms else LIKE_FOR_LIKE
    learners = tuple(name for name in ALGORITHMS if name in wanted)
    return tuple(name for name in FIGURES if not figures or name in figures), learners


def _open_folder(out: Path) -> Path:
    """The study's folder: new, of an interrupted study, or with nothing but a cache. Raises ``UserError`` otherwise."""
    if out.exists() and not out.is_dir():
        raise UserError(f"out = {str(out)!r}: is a file; give a folder")
    if out.is_dir() and any(path.name != CACHE for path in out.iterdir()) and not (out / STUDY).is_file():
        raise UserError(f"out = {str(out)!r}: is not empty and not the folder of a study; give another folder")
    for folder in (out, out / CACHE):
        check_writable(folder)
    return out
