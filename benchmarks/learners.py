"""Benchmark of the learners: training speed on one core, and the resulting duration of the study.

    python benchmarks/learners.py campus [algorithm ...]

For each learner: seconds until the end of the first update (imports, compilation with a warm cache, the first
rollout), then decisions per second. Both are in processor time, on which other jobs of the machine have little effect.
The last lines estimate the duration of the trainings of `edgebrush reproduce`, full and quick, on two cores.
"""

import json
import os
import subprocess
import sys
import time

from edgebrush.learning.launcher import ONE_THREAD
from edgebrush.learning.registry import ALGORITHMS, configure
from edgebrush.scenario.load import load_scenario
from edgebrush.study.findings import QUICK_PLAN, Plan
from edgebrush.study.variations import SWEEPS, ablations

UPDATES, CORES = 4, 2


def measure(preset: str, name: str) -> None:
    """Train one learner for a few updates in this process; print start time and speed as JSON."""
    import jax

    cache = os.path.expanduser(os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "edgebrush", "jax"))
    jax.config.update("jax_compilation_cache_dir", cache)
    config = configure(name, {}, seconds=None, decisions=None)
    training = ALGORITHMS[name].training(load_scenario(preset), config, 1, None)
    first = training.step()["decisions"]  # includes a validation
    started = time.process_time()
    rows = [training.step() for _ in range(UPDATES)]
    rate = (rows[-1]["decisions"] - first) / (time.process_time() - started)
    print(json.dumps({"start_s": started - first / rate, "decisions_per_s": rate}))


def trainings(plan: Plan) -> dict[str, int]:
    """Number of trainings of each learner in a study; ablations count as MAPPO's."""
    points = len(SWEEPS) * plan.factors
    counts = dict.fromkeys(ALGORITHMS, plan.seeds + points * plan.point_seeds)
    counts["mappo"] += plan.seeds * sum(each.name not in ALGORITHMS for each in ablations(1))
    return counts


def main(preset: str, names: list[str]) -> None:
    measured = {}
    print(f"| learner | start, s | decisions/s | one full training of {Plan().decisions:,}, s |\n|---|---|---|---|")
    for name in names or ALGORITHMS:
        command = [sys.executable, __file__, "--measure", preset, name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **ONE_THREAD})
        measured[name] = found = json.loads(done.stdout)
        whole = found["start_s"] + Plan().decisions / found["decisions_per_s"]
        print(f"| {name} | {found['start_s']:.0f} | {found['decisions_per_s']:,.0f} | {whole:.0f} |", flush=True)
    for title, plan in (("full", Plan()), ("quick", QUICK_PLAN)):
        seconds = sum(
            count * (measured[name]["start_s"] + plan.decisions / measured[name]["decisions_per_s"])
            for name, count in trainings(plan).items()
            if name in measured
        )
        count = sum(number for name, number in trainings(plan).items() if name in measured)
        print(f"{title}: {count} trainings, {seconds / CORES / 3600:.2f} h on {CORES} cores")


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        measure(*sys.argv[2:])
    else:
        main(sys.argv[1], sys.argv[2:])
