"""A testbed experiment: run one policy after the other on the same arrivals and write the run folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.agent.agent import OWN
from edgebrush.evaluation.results import Stopwatch, pool, results_of
from edgebrush.evaluation.run_folder import Run, new_folder, store_run, store_scenario
from edgebrush.evaluation.statistics import Digest, digest, load_edges
from edgebrush.journal.reader import read_journal
from edgebrush.policies.load import load_policy
from edgebrush.progress import ProgressCallback, no_progress
from edgebrush.report.rendering import render
from edgebrush.scenario.load import load_scenario

from . import busy_machine, closed_loop, validation
from .busy_machine import Timing, denoising_s
from .closed_loop import BLOCK_S
from .episode import Episode, decide_in_simulator, draw_episode, simulate
from .gallery import make_section, write_gallery
from .live import LivePage
from .outcomes import Audit, TaskRecord, audit, decisions, outcomes, task_id, task_records
from .processes import run_interruptible
from .testbed import Testbed


@dataclass(frozen=True)
class PolicyRun:
    """What one policy's run gave: an outcome row and a record per task, the audit, and how well times were kept."""

    policy: str
    source: str  # the policy as the user gave it: a rule's name, a folder or a class
    folder: Path
    outcomes: np.ndarray
    records: dict[str, TaskRecord]
    audit: Audit
    timing: Timing


def run_experiment(
    source: str,
    policies: Sequence[str],
    out: Path,
    *,
    seconds: float,
    seed: int,
    against_sim: bool = False,
    live: LivePage | None = None,
    overwrite: bool = False,
    command: str = "edgebrush testbed",
    progress: ProgressCallback = no_progress,
) -> Run:
    """Run ``policies`` (names of rules, policy folders) on ``seconds`` of arrivals and write the run folder ``out``.

    Beside the files of a comparison, ``out`` gets ``gallery.html``, ``rounds/`` with the journals and logs, and, with
    ``against_sim``, the simulator's error and its own decisions. Raises ``UserError`` for invalid input before any
    process starts, and ``KeyboardInterrupt`` on SIGINT, SIGTERM and SIGHUP after all processes have ended.
    """
    scenario = load_scenario(source)
    named = [(policy, load_policy(policy, scenario).name) for policy in policies]
    episode = draw_episode(scenario, seed, seconds)
    with new_folder(out, overwrite=overwrite) as folder:
        stopwatch = Stopwatch()
        store_scenario(scenario, folder)
        with stopwatch("rounds"):
            runs = run_interruptible(_run_policies(source, episode, named, folder / "rounds", live, progress))
        facts = {"testbed": _facts(episode, runs)}
        if against_sim:
            with stopwatch("simulator"):
                facts["testbed"]["against_sim"] = _validate(episode, runs, folder)
                facts["testbed"]["closed_loop"], parted = _close_loop(episode, runs, folder)
                facts["testbed"]["warnings"] += parted
        sections = [make_section(each.folder.name, episode, each.outcomes, each.folder) for each in runs]
        write_gallery(episode, sections, folder)
        digests = _digests(episode, runs)
        results = results_of(scenario, digests, _blocks(seconds), command, stopwatch.seconds)
        results |= {"horizon_s": BLOCK_S, "first_held_out_seed": seed, **facts}
        run = Run(scenario, results, {name: pool(parts) for name, parts in digests.items()}, [])
        render(run, folder)
        store_run(run, folder)
        return run


def _validate(episode: Episode, runs: list[PolicyRun], folder: Path) -> dict[str, Any]:
    """The simulator's error in each run, given the same decisions."""
    pairs = {}
    for each in runs:
        simulated = simulate(episode, decisions(episode, each.records))
        pairs[each.folder.name] = validation.common_images(each.outcomes, simulated)
    return validation.write_validation(episode.scenario, pairs, folder)


def _close_loop(episode: Episode, runs: list[PolicyRun], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The simulator's own decisions under the policy of each run, beside the testbed's; and what to warn about."""
    pairs = {}
    for each in runs:
        policy = load_policy(each.source, episode.scenario)
        pairs[each.folder.name] = each.outcomes, decide_in_simulator(episode, policy)
    return closed_loop.write_closed_loop(episode.scenario, pairs, folder)


async def _run_policies(
    source: str,
    episode: Episode,
    named: list[tuple[str, str]],
    home: Path,
    live: LivePage | None,
    progress: ProgressCallback,
) -> list[PolicyRun]:
    async with live or contextlib.nullcontext():
        runs: list[PolicyRun] = []
        for policy, name in named:
            same = sum(each.policy == name for each in runs)
            folder = home / (f"{name}-{same + 1}" if same else name)
            runs.append(await _run_policy(source, episode, policy, name, folder, live, progress))
        return runs


async def _run_policy(
    source: str,
    episode: Episode,
    policy: str,
    name: str,
    folder: Path,
    live: LivePage | None,
    progress: ProgressCallback,
) -> PolicyRun:
    """Start the testbed with one policy, replay the episode, and collect the outcomes."""
    folder.mkdir(parents=True)
    ended, count, load_average = 0, len(episode.tasks), os.getloadavg()[0]

    def count_one(_: object) -> None:
        nonlocal ended
        ended += 1
        progress(f"running {name}", ended / count, f"{ended} of {count} tasks")

    progress(f"running {name}", 0.0, "starting the processes")
    async with Testbed(source, episode, policy, folder) as testbed, _watch(live, testbed, name):
        await testbed.play(count_one)
        pages = await testbed.metrics()
    records = task_records(line for journal in testbed.journals for line in read_journal(journal))
    rows = outcomes(episode, records, testbed.start_s)
    checked = audit(count, testbed.journals)
    timing = Timing(load_average, testbed.lateness_s, *_denoising_s(episode, records, pages))
    return PolicyRun(name, policy, folder, rows, records, checked, timing)


def _denoising_s(episode: Episode, records: dict[str, TaskRecord], pages: list[str]) -> tuple[float, float]:
    """Paced and taken seconds of denoising at the BSs (from their metrics) and of the images of the own devices."""
    times = [
        denoising_s(page, float(bs["round_intercept_s"]), float(bs["round_slope_s"]))
        for page, bs in zip(pages, episode.params.bs, strict=True)
    ]
    for task in episode.tasks:
        ended, device = records[task_id(task)].ended, episode.params.ue[task.ue]
        if ended and ended["ok"] and ended["ended"]["place"] == OWN:
            made = ended["ended"]
            times.append((float(device["fixed_s"] + made["steps"] * device["step_s"]), made["compute_s"]))
    paced_s, taken_s = np.sum(times, axis=0).tolist()
    return paced_s, taken_s


def _watch(live: LivePage | None, testbed: Testbed, policy: str) -> contextlib.AbstractAsyncContextManager[None]:
    return live.watch(testbed, policy) if live else contextlib.nullcontext()


def _facts(episode: Episode, runs: list[PolicyRun]) -> dict[str, Any]:
    """The entry "testbed" of ``results.json``."""
    return {
        "seconds": episode.seconds,
        "seed": episode.seed,
        "rounds": {
            each.folder.name: {
                **each.audit.entries(),
                **each.timing.entries(),
            }
            for each in runs
        },
        "warnings": [
            *busy_machine.load_warnings(runs[0].timing.load_average),
            *(each for run in runs for each in busy_machine.timing_warnings(run.folder.name, run.timing)),
        ],
    }


def _digests(episode: Episode, runs: list[PolicyRun]) -> dict[str, list[Digest]]:
    """Digests by policy name. Several folders with one name are training seeds of one learner."""
    digests: dict[str, list[Digest]] = {}
    for each in runs:
        each.outcomes["episode"] = each.outcomes["arrival_s"] // BLOCK_S
        part = digest(episode.scenario, each.outcomes, _blocks(episode.seconds), load_edges(each.outcomes))
        digests.setdefault(each.policy, []).append(part)
    return digests


def _blocks(seconds: float) -> int:
    return int(np.ceil(seconds / BLOCK_S))
