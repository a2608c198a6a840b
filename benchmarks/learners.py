"""How long the learners train on one core, and so how long the study takes.

    python benchmarks/learners.py campus [algorithm ...]

For each: seconds from nothing to the first update done (imports, compilation with a warm cache, the first look at the
world), then decisions per second; both in processor time, which other jobs on the machine hardly change. The last lines
say how long the trainings of `edgebrush reproduce` take, full and quick, on two cores.
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
    """Train one learner for a few updates in this process; print its two numbers as JSON."""
    import jax

    cache = os.path.expanduser(os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "edgebrush", "jax"))
    jax.config.update("jax_compilation_cache_dir", cache)
    config = configure(name, {}, seconds=None, decisions=None)
    training = ALGORITHMS[name].training(load_scenario(preset), config, 1, None)
    first = training.step()["decisions"]  # validates, too
    begun = time.process_time()
    rows = [training.step() for _ in range(UPDATES)]
    rate = (rows[-1]["decisions"] - first) / (time.process_time() - begun)
    print(json.dumps({"start_s": begun - first / rate, "decisions_per_s": rate}))


def trainings(plan: Plan) -> dict[str, int]:
    """How many trainings of each learner a study has; ablations count as MAPPO's."""
    points = len(SWEEPS) * plan.factors
    counts = dict.fromkeys(ALGORITHMS, plan.seeds + points * plan.point_seeds)
    counts["mappo"] += plan.seeds * sum(each.name not in ALGORITHMS for each in ablations(1))
    return counts


def main(preset: str, names: list[str]) -> None:
    taken = {}
    print(f"| learner | start, s | decisions/s | one full training of {Plan().decisions:,}, s |\n|---|---|---|---|")
    for name in names or ALGORITHMS:
        command = [sys.executable, __file__, "--measure", preset, name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **ONE_THREAD})
        taken[name] = found = json.loads(done.stdout)
        whole = found["start_s"] + Plan().decisions / found["decisions_per_s"]
        print(f"| {name} | {found['start_s']:.0f} | {found['decisions_per_s']:,.0f} | {whole:.0f} |", flush=True)
    for title, plan in (("full", Plan()), ("quick", QUICK_PLAN)):
        seconds = sum(
            count * (taken[name]["start_s"] + plan.decisions / taken[name]["decisions_per_s"])
            for name, count in trainings(plan).items()
            if name in taken
        )
        count = sum(number for name, number in trainings(plan).items() if name in taken)
        print(f"{title}: {count} trainings, {seconds / CORES / 3600:.2f} h on {CORES} cores")


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        measure(*sys.argv[2:])
    else:
        main(sys.argv[1], sys.argv[2:])
