"""Compare policies: tune the rules, train MAPPO, play all on the same held-out episodes, write the run folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgebrush.errors import UserError
from edgebrush.evaluation.held_out import default_episodes, play_all
from edgebrush.evaluation.results import Stopwatch, pool, results_of
from edgebrush.evaluation.run_folder import Run, load_curve, new_folder, store_run, store_scenario
from edgebrush.learning import CURVE
from edgebrush.policies.load import load_policy
from edgebrush.policies.protocol import Policy
from edgebrush.policies.rules import KINDS
from edgebrush.progress import ProgressCallback, no_progress
from edgebrush.report.rendering import render
from edgebrush.scenario.parameters import check_usable
from edgebrush.scenario.schema import Scenario
from edgebrush.study import TRAINING_S, TRAINING_SEEDS
from edgebrush.study.train import train_policies
from edgebrush.tuning.rules import tuned_rules

NAMED = re.compile(r"([a-z0-9][a-z0-9-]*)=(.+)")


def compare(
    scenario: Scenario,
    out: Path | str,
    *,
    policies: Sequence[str | Path] = (),
    seeds: int = TRAINING_SEEDS,
    seconds: float = TRAINING_S,
    decisions: int | None = None,
    episodes: int | None = None,
    tasks_csv: bool = False,
    overwrite: bool = False,
    command: str = "edgebrush compare",
    progress: ProgressCallback = no_progress,
) -> Run:
    """Train MAPPO and compare it with every rule; ``out`` becomes a run folder (see ``run_folder``) or does not appear.

    ``policies`` are evaluated as well: folders of trained policies, or ``module:Class`` (see ``policies/plugins.py``),
    each called by its own name or by that of ``NAME=POLICY``.
    ``seeds`` trainings of MAPPO share ``seconds``, or end after ``decisions`` each; 0 compares the rules alone.
    ``command`` is what the report names as the command of the run. Raises ``UserError`` before any long work where
    ``out`` cannot be written or the scenario or a policy cannot be used.
    """
    episodes = default_episodes(scenario) if episodes is None else at_least_two("episodes", episodes)
    if seeds < 0 or seconds <= 0:
        raise UserError(f"seeds = {seeds}, seconds = {seconds:g}: seeds must be 0 or more, seconds positive")
    check_usable(scenario)
    own = load_by_name([name for name in policies if name not in KINDS], scenario)
    if seeds and "mappo" in own:
        raise UserError(
            "policies: one is called mappo, which compare trains itself; name it, as in old=FOLDER, or set seeds to 0"
        )
    with new_folder(Path(out), overwrite=overwrite) as folder:
        stopwatch = Stopwatch()
        store_scenario(scenario, folder)
        with stopwatch("rules"):
            rules = {rule.name: rule for rule in tuned_rules(scenario, progress)}
            compared = own | {name: [rule] for name, rule in rules.items()}
        if seeds:
            with stopwatch("training"):
                home = folder / "policies" / "mappo"
                trained = train_policies(
                    scenario,
                    home,
                    seeds=seeds,
                    seconds=seconds,
                    decisions=decisions,
                    prices=rules["priced-greedy"].parameters,
                    progress=progress,
                )
                (home / CURVE).replace(folder / CURVE)
                compared = {"mappo": [load_policy(path, scenario) for path in trained], **compared}
        return _play_and_report(scenario, folder, compared, episodes, tasks_csv, command, stopwatch, progress)


def evaluate(
    scenario: Scenario,
    policies: Sequence[str | Path],
    out: Path | str,
    *,
    episodes: int | None = None,
    tasks_csv: bool = False,
    overwrite: bool = False,
    command: str = "edgebrush evaluate",
    progress: ProgressCallback = no_progress,
) -> Run:
    """Play policies on held-out episodes; ``out`` becomes a run folder.

    ``policies`` are rules by name, trained policies by folder, and ``module:Class`` (see ``policies/plugins.py``).
    Trained policies with the same name count as training seeds of one learner. Raises ``UserError`` as ``compare``
    does, and where a policy cannot be used.
    """
    episodes = default_episodes(scenario) if episodes is None else at_least_two("episodes", episodes)
    check_usable(scenario)
    by_name = load_by_name([name for name in policies if name not in KINDS], scenario)
    rules = [name for name in policies if name in KINDS]
    with new_folder(Path(out), overwrite=overwrite) as folder:
        stopwatch = Stopwatch()
        store_scenario(scenario, folder)
        if rules:
            with stopwatch("rules"):
                by_name |= {rule.name: [rule] for rule in tuned_rules(scenario, progress) if rule.name in rules}
        return _play_and_report(scenario, folder, by_name, episodes, tasks_csv, command, stopwatch, progress)


def load_by_name(policies: Sequence[str | Path], scenario: Scenario) -> dict[str, list[Policy]]:
    """The loaded policies, grouped by their own names or by those of ``NAME=POLICY``.

    Raises ``UserError`` where one cannot be used, or has the name of a rule.
    """
    by_name: dict[str, list[Policy]] = {}
    for reference in policies:
        named = NAMED.fullmatch(str(reference))
        policy = load_policy(named[2] if named else reference, scenario)
        name = named[1] if named else policy.name
        if name in KINDS:
            raise UserError(f"policy = {str(reference)!r}: {name} is the name of a rule; give another name")
        by_name.setdefault(name, []).append(policy)
    return by_name


def at_least_two(field: str, value: int) -> int:
    """The value, if it is at least 2, which an interval needs. Raises ``UserError``."""
    if value < 2:
        raise UserError(f"{field} = {value}: must be at least 2")
    return value


def _play_and_report(
    scenario: Scenario,
    folder: Path,
    policies: dict[str, list[Policy]],
    episodes: int,
    tasks_csv: bool,
    command: str,
    stopwatch: Stopwatch,
    progress: ProgressCallback,
) -> Run:
    """Play all policies; write the results, the figures and the report."""
    with stopwatch("evaluation"):
        played = play_all(scenario, policies, episodes, folder / "tasks.csv" if tasks_csv else None, progress)
    pooled = {name: pool(digests) for name, digests in played.items()}
    results = results_of(scenario, played, episodes, command, stopwatch.seconds)
    run = Run(scenario, results, pooled, load_curve(folder / CURVE))
    with stopwatch("report"):
        progress("drawing the report", 0.0, "")
        render(run, folder)
    store_run(run, folder)
    progress("drawing the report", 1.0, "")
    return run
