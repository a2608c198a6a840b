"""The main job: tune the rules, train MAPPO, play all on the same held-out episodes, write the run folder."""

from __future__ import annotations

import csv
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.errors import UserError
from edgebrush.files import check_writable
from edgebrush.learning import CHECKPOINT, CURVE
from edgebrush.learning.algorithms import ALGORITHMS, configure, tuned_settings
from edgebrush.policies.protocol import Policy
from edgebrush.policies.rules import KINDS, Rule
from edgebrush.policies.shipped import shipped_rules, trained_policy
from edgebrush.scenario.capacity import offered_load
from edgebrush.scenario.schema import Scenario, TraceArrivals
from edgebrush.sim.seeds import HELD_OUT_SEEDS
from edgebrush.sim.tables import OUTCOME, build_params, choice_shape

from .episodes import play
from .report import render
from .runs import Run, load_curve, new_folder, store_run, store_scenario
from .statistics import Bootstrap, Digest, digest, join, load_edges, summary
from .tuning import QUICK, rule_of, tune_all

# How the default comparison spends its 6 minutes on 2 cores.
TRAINING_S = 220.0  # for all training seeds together
TRAINING_SEEDS = 4
EVALUATED_TASKS = 500_000  # of each policy
EPISODES = (32, 1000)  # at least and at most

PACKAGES = ("edgebrush", "numpy", "numba", "jax", "equinox", "optax")
TASKS_AT_ONCE = 400_000  # kept in memory while a policy is played
TASK_COLUMNS = ("policy", "training_seed", *(OUTCOME.names or ()))

# (phase, the share of it that is done, a note): what a progress bar needs.
Progress = Callable[[str, float, str], None]


def silent(phase: str, share: float, note: str) -> None:
    """No progress at all."""


def compare(
    scenario: Scenario,
    out: Path | str,
    *,
    seeds: int = TRAINING_SEEDS,
    seconds: float = TRAINING_S,
    decisions: int | None = None,
    episodes: int | None = None,
    tasks_csv: bool = False,
    overwrite: bool = False,
    command: str = "edgebrush compare",
    progress: Progress = silent,
) -> Run:
    """Train and compare; the folder ``out`` then holds the run (see ``runs``), or is not there at all.

    ``seeds`` trainings of MAPPO share ``seconds`` (or end after ``decisions`` each); 0 compares the rules alone.
    ``command`` is what the report says how to do it again. Raises ``UserError`` before any long work where
    ``out`` cannot be written or the scenario cannot be used.
    """
    episodes = default_episodes(scenario) if episodes is None else positive("episodes", episodes)
    if seeds < 0 or seconds <= 0:
        raise UserError(f"seeds = {seeds}, seconds = {seconds:g}: seeds must be 0 or more, seconds positive")
    build_params(scenario)
    with new_folder(Path(out), overwrite=overwrite) as folder:
        stopwatch = Stopwatch()
        store_scenario(scenario, folder)
        with stopwatch("rules"):
            rules = {rule.name: rule for rule in rules_of(scenario, progress)}
            policies: dict[str, list[Policy]] = {name: [rule] for name, rule in rules.items()}
        if seeds:
            with stopwatch("training"):
                home = folder / "policies" / "mappo"
                trained = train_policies(
                    scenario,
                    home,
                    seeds=seeds,
                    seconds=seconds,
                    decisions=decisions,
                    prices=rules["priced-greedy"].numbers,
                    progress=progress,
                )
                (home / CURVE).replace(folder / CURVE)
                policies = {"mappo": [load_policy(path, scenario) for path in trained], **policies}
        return _finish(scenario, folder, policies, episodes, tasks_csv, command, stopwatch, progress)


def evaluate(
    scenario: Scenario,
    policies: Sequence[str | Path],
    out: Path | str,
    *,
    episodes: int | None = None,
    tasks_csv: bool = False,
    overwrite: bool = False,
    command: str = "edgebrush evaluate",
    progress: Progress = silent,
) -> Run:
    """Play rules (by name) and trained policies (by folder) on held-out episodes; ``out`` then holds the run.

    Trained policies of one name count as training seeds of one learner. Raises ``UserError`` as ``compare``
    does, and where a policy cannot be used.
    """
    episodes = default_episodes(scenario) if episodes is None else positive("episodes", episodes)
    build_params(scenario)
    gathered: dict[str, list[Policy]] = {}
    for folder in (Path(name) for name in policies if name not in KINDS):
        policy = load_policy(folder, scenario)
        gathered.setdefault(policy.name, []).append(policy)
    rules = [name for name in policies if name in KINDS]
    with new_folder(Path(out), overwrite=overwrite) as folder:
        stopwatch = Stopwatch()
        store_scenario(scenario, folder)
        if rules:
            with stopwatch("rules"):
                gathered |= {rule.name: [rule] for rule in rules_of(scenario, progress) if rule.name in rules}
        return _finish(scenario, folder, gathered, episodes, tasks_csv, command, stopwatch, progress)


def train_policies(
    scenario: Scenario,
    out: Path | str,
    *,
    algorithm: str = "mappo",
    seeds: int = TRAINING_SEEDS,
    seconds: float = TRAINING_S,
    decisions: int | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    prices: np.ndarray | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Train an algorithm on seeds 1, 2, ...; the policy folders, which lie in ``out`` beside the curve and a
    checkpoint.

    ``algorithm`` is a name of ``edgebrush.learning.algorithms.ALGORITHMS``; ``settings`` set numbers of its config,
    which are otherwise those that the equal search chose for the preset (``search``), or as they come.
    The trainings share ``seconds``, or make ``decisions`` each. ``prices`` are the priced greedy rule's numbers to
    start from (by default those of ``rules_of``). Raises ``UserError`` before any long work where ``out`` cannot be
    written, or holds a training and ``resume`` is not given, or a setting cannot be.
    """
    from edgebrush.learning.seeds import train

    out = Path(out)
    chosen = tuned_settings(scenario.name, algorithm) | dict(settings or {})
    config = configure(
        algorithm, chosen, seconds=seconds if decisions is None else None, decisions=decisions
    )
    if seeds < 1:
        raise UserError(f"seeds = {seeds}: must be 1 or more")
    begun = (out / CHECKPOINT).exists()
    if begun and not resume:
        raise UserError(f"out = {str(out)!r}: holds a training already; add --resume or give another folder")
    if resume and not begun:
        raise UserError(f"out = {str(out)!r}: holds no checkpoint to go on from; leave out --resume")
    build_params(scenario)
    check_writable(out)
    if prices is None:
        prices = prices_of(scenario, progress)
    phase = f"training {ALGORITHMS[algorithm].title}"
    shares: dict[int, float] = {}

    def hear(row: dict) -> None:
        shares[row["seed"]] = row["share"]
        progress(phase, sum(shares.values()) / seeds, f"seed {row['seed']}: cost {row['cost']:.4f}")

    return train(scenario, algorithm, config, range(1, seeds + 1), out, prices, hear)


def load_policy(folder: Path | str, scenario: Scenario) -> Policy:
    """The policy in a folder, for this scenario's choices. Raises ``UserError`` where it cannot be used."""
    return trained_policy(folder, scenario, choice_shape(scenario))


def asked_for(scenario: Scenario, trace: Path | None = None, load: float | None = None) -> Scenario:
    """The scenario with a trace's arrivals instead of its own, scaled to an offered load where one is given.

    1 is what the BSs can do at 15 steps with full batches. Raises ``UserError``.
    """
    if load is not None and not 0.0 < load < float("inf"):
        raise UserError(f"load = {load:g}: must be positive; 1 is what the base stations can do")
    name, arrivals, factor = scenario.name, scenario.arrivals, 1.0
    if load is not None:
        factor = load / offered_load(scenario)
        name += f"-load-{load:g}".replace(".", "-")
    if trace is not None:
        users = sum(ue.count * ue.rate_factor for ue in scenario.ues)
        arrivals = TraceArrivals(file=trace.absolute(), rate_hz=scenario.task_rate_hz / users)
        name += "-trace"
    if trace is None and load is None:
        return scenario
    arrivals = arrivals.model_copy(update={"rate_hz": arrivals.rate_hz * factor})
    return scenario.model_copy(update={"name": name, "arrivals": arrivals})


def rules_of(scenario: Scenario, progress: Progress = silent) -> list[Rule]:
    """Every rule, with the numbers that ship with a preset, else tuned on the spot."""
    shipped = shipped_rules(scenario, choice_shape(scenario))
    if shipped is not None:
        return shipped
    tuned = tune_all(scenario, QUICK, lambda rule, share: progress("tuning the rules", share, rule))
    return [rule_of(scenario, each.rule, each.numbers) for each in tuned]


def prices_of(scenario: Scenario, progress: Progress = silent) -> np.ndarray:
    """The numbers of the tuned priced greedy rule, from which learners start."""
    return next(rule.numbers for rule in rules_of(scenario, progress) if rule.name == "priced-greedy")


def default_episodes(scenario: Scenario) -> int:
    """As many held-out episodes as ``EVALUATED_TASKS`` fill."""
    wanted = EVALUATED_TASKS / (scenario.task_rate_hz * scenario.horizon_s)
    return int(np.clip(round(wanted), *EPISODES))


def positive(field: str, value: int) -> int:
    """The value, if it is at least 2 (an interval needs that many). Raises ``UserError``."""
    if value < 2:
        raise UserError(f"{field} = {value}: must be at least 2")
    return value


class Stopwatch:
    """Seconds that each phase took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = round(time.perf_counter() - start, 2)


def _finish(
    scenario: Scenario,
    folder: Path,
    policies: dict[str, list[Policy]],
    episodes: int,
    tasks_csv: bool,
    command: str,
    stopwatch: Stopwatch,
    progress: Progress,
) -> Run:
    """Play all policies, then write the results, the figures and the report."""
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


def play_all(
    scenario: Scenario,
    policies: dict[str, list[Policy]],
    episodes: int,
    tasks_csv: Path | None = None,
    progress: Progress = silent,
) -> dict[str, list[Digest]]:
    """A digest for each policy and training seed, all on the same held-out episodes."""
    seeds = HELD_OUT_SEEDS + np.arange(episodes)
    at_once = max(1, int(TASKS_AT_ONCE / (scenario.task_rate_hz * scenario.horizon_s)))
    chunks = [seeds[first : first + at_once] for first in range(0, episodes, at_once)]
    total = episodes * sum(len(group) for group in policies.values())
    done, edges = 0, None
    digests: dict[str, list[Digest]] = {name: [] for name in policies}
    with _task_log(tasks_csv) as log:
        for name, group in policies.items():
            for number, policy in enumerate(group, 1):
                parts = []
                for chunk in chunks:
                    progress("playing held-out episodes", done / total, name)
                    outcomes = play(scenario, policy, chunk)
                    if edges is None:  # of the arrivals, which all policies share
                        edges = load_edges(outcomes)
                    parts.append(digest(scenario, outcomes, len(chunk), edges))
                    outcomes["episode"] += chunk[0] - seeds[0]
                    log((name, number if len(group) > 1 else "", *row) for row in outcomes.tolist())
                    done += len(chunk)
                digests[name].append(join(parts))
    progress("playing held-out episodes", 1.0, "")
    return digests


@contextmanager
def _task_log(path: Path | None) -> Iterator[Callable]:
    """What writes rows of tasks to a CSV file, or nowhere."""
    if path is None:
        yield lambda rows: None
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(TASK_COLUMNS)
        yield writer.writerows


def results_of(
    scenario: Scenario, played: dict[str, list[Digest]], episodes: int, command: str, timings_s: dict
) -> dict:
    """What ``results.json`` holds, from each policy's digests by training seed."""
    first = next(iter(played.values()))[0]
    return {
        "scenario": scenario.name,
        "command": command,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "episodes": episodes,
        "horizon_s": scenario.horizon_s,
        "offered_load": offered_load(scenario),
        "first_held_out_seed": HELD_OUT_SEEDS,
        "tasks_per_policy": int(first.total("tasks").sum()),
        "policies": figures_of(played, {name: pool(digests) for name, digests in played.items()}),
        "versions": {name: version(name) for name in PACKAGES},
        "machine": machine(),
        "timings_s": timings_s,
    }


def figures_of(played: dict[str, list[Digest]], pooled: dict[str, Digest]) -> dict[str, dict]:
    """Each policy's figures, its differences to every other, and the spread of its training seeds."""
    bootstrap = Bootstrap(pooled[next(iter(pooled))].episodes)
    sums = {name: kept.by_request.sum(1) for name, kept in pooled.items()}
    policies = {name: summary(kept, bootstrap) for name, kept in pooled.items()}
    for name, figures in policies.items():
        figures["less_than"] = {
            rival: {
                "cost": bootstrap.difference(sums[name], sums[rival])._asdict(),
                "relative": bootstrap.difference(sums[name], sums[rival], relative=True)._asdict(),
            }
            for rival in policies
            if rival != name
        }
        if len(played[name]) > 1:
            costs = [float(kept.total("cost").sum() / kept.total("tasks").sum()) for kept in played[name]]
            figures["training_seeds"] = {"cost": costs, "deviation": float(np.std(costs, ddof=1))}
    return policies


def pool(digests: Sequence[Digest]) -> Digest:
    """Training seeds added up."""
    first, *rest = digests
    for other in rest:
        first = first + other
    return first


def machine() -> dict[str, str | int]:
    """On what the run was made."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return {
        "processor": processor,
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
