"""A trial: one policy after the other on the testbed, on the same arrivals, and the run folder that comes of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.evaluation.results import Stopwatch, pool, results_of
from edgebrush.evaluation.run_folder import Run, new_folder, store_run, store_scenario
from edgebrush.evaluation.statistics import Digest, digest, load_edges
from edgebrush.policies.load import load_policy
from edgebrush.progress import ProgressCallback, no_progress
from edgebrush.report.rendering import render
from edgebrush.scenario.load import load_scenario

from . import gallery
from . import validation as against
from .episode import Episode, draw_episode, simulate
from .live import Live
from .outcomes import Audit, Story, audit, decisions, outcomes, read_lines, stories
from .processes import interruptible
from .testbed import Testbed

BLOCK_S = 10.0  # of arrivals: what intervals resample, as a comparison does episodes (Künsch 1989)


@dataclass(frozen=True)
class Round:
    """What came of one policy: outcomes, one an arrival, the audit, and how much too late a task was asked for."""

    policy: str
    folder: Path
    rows: np.ndarray
    told: dict[str, Story]
    audit: Audit
    latest_s: float
    load_average: float


def run_trial(
    source: str,
    policies: Sequence[str],
    out: Path,
    *,
    seconds: float,
    seed: int,
    against_sim: bool = False,
    live: Live | None = None,
    overwrite: bool = False,
    command: str = "edgebrush testbed",
    progress: ProgressCallback = no_progress,
) -> Run:
    """Play ``policies`` (names of rules, folders) on ``seconds`` of arrivals; ``out`` then holds the run.

    Beside what a comparison leaves, it holds ``gallery.html``, ``rounds/`` with the journals and logs, and, with
    ``against_sim``, how far off the simulator was. Raises ``UserError`` before anything is started where something
    cannot be used, and ``KeyboardInterrupt`` on SIGINT and SIGTERM, when all processes have ended.
    """
    scenario = load_scenario(source)
    named = [(policy, load_policy(policy, scenario).name) for policy in policies]
    episode = draw_episode(scenario, seed, seconds)
    with new_folder(out, overwrite=overwrite) as folder:
        stopwatch = Stopwatch()
        store_scenario(scenario, folder)
        with stopwatch("rounds"):
            rounds = interruptible(_play_all(source, episode, named, folder / "rounds", live, progress))
        facts = {"testbed": _facts(episode, rounds)}
        if against_sim:
            with stopwatch("simulator"):
                pairs = {each.folder.name: against.pair(each.rows, simulated(episode, each)) for each in rounds}
                facts["testbed"]["against_sim"] = against.write(scenario, pairs, folder)
        walls = [gallery.wall(each.folder.name, episode, each.rows, each.folder) for each in rounds]
        gallery.write_gallery(episode, walls, folder)
        digests = _digests(episode, rounds)
        results = results_of(scenario, digests, _blocks(seconds), command, stopwatch.seconds)
        results |= {"horizon_s": BLOCK_S, "first_held_out_seed": seed, **facts}
        run = Run(scenario, results, {name: pool(parts) for name, parts in digests.items()}, [])
        render(run, folder)
        store_run(run, folder)
        return run


def simulated(episode: Episode, played: Round) -> np.ndarray:
    """What the simulator makes of a round's arrivals and decisions."""
    return simulate(episode, decisions(episode, played.told))


async def _play_all(
    source: str,
    episode: Episode,
    named: list[tuple[str, str]],
    home: Path,
    live: Live | None,
    progress: ProgressCallback,
) -> list[Round]:
    async with live or contextlib.nullcontext():
        rounds: list[Round] = []
        for policy, name in named:
            same = sum(each.policy == name for each in rounds)
            folder = home / (f"{name}-{same + 1}" if same else name)
            rounds.append(await _play(source, episode, policy, name, folder, live, progress))
        return rounds


async def _play(
    source: str, episode: Episode, policy: str, name: str, folder: Path, live: Live | None, progress: ProgressCallback
) -> Round:
    """Bring the testbed up for one policy, live the episode through, and take stock."""
    folder.mkdir(parents=True)
    ended, count, load_average = 0, len(episode.arrivals), os.getloadavg()[0]

    def count_one(_: object) -> None:
        nonlocal ended
        ended += 1
        progress(f"playing {name}", ended / count, f"{ended} of {count} tasks")

    progress(f"playing {name}", 0.0, "starting the processes")
    async with Testbed(source, episode, policy, folder) as testbed, watched(testbed, name, live):
        await testbed.play(count_one)
    told = stories(line for journal in testbed.journals for line in read_lines(journal))
    rows = outcomes(episode, told, testbed.start_s)
    return Round(name, folder, rows, told, audit(count, testbed.journals), testbed.latest_s, load_average)


def watched(testbed: Testbed, name: str, live: Live | None) -> contextlib.AbstractAsyncContextManager[None]:
    """The live page's watch, where there is one."""
    return live.round(testbed, name) if live else contextlib.nullcontext()


def _facts(episode: Episode, rounds: list[Round]) -> dict[str, Any]:
    return {
        "seconds": episode.seconds,
        "seed": episode.seed,
        "rounds": {
            each.folder.name: {
                **asdict(each.audit),
                "asked_too_late_s": round(each.latest_s, 4),
                "load_average": round(each.load_average, 2),
            }
            for each in rounds
        },
    }


def _digests(episode: Episode, rounds: list[Round]) -> dict[str, list[Digest]]:
    """By policy; several folders of one name are training seeds of one learner."""
    digests: dict[str, list[Digest]] = {}
    for each in rounds:
        each.rows["episode"] = each.rows["arrival_s"] // BLOCK_S
        part = digest(episode.scenario, each.rows, _blocks(episode.seconds), load_edges(each.rows))
        digests.setdefault(each.policy, []).append(part)
    return digests


def _blocks(seconds: float) -> int:
    return int(np.ceil(seconds / BLOCK_S))
