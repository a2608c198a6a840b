"""How fast the simulator is: decisions per second with the observation included, compile time, peak memory.

    python benchmarks/simulator.py [PRESET ...]

Whole episodes are played in one compiled call per episode; each task goes where its UE expects the least
cost. Each figure is the best of a few runs. Compile times are those of a new process: with an empty cache,
and with the cache that it then left.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from edgebrush.decision.observation import PRESENT, TASK_FEATURES
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.presets import preset_names
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.compile import CORES, compiled
from edgebrush.sim.simulator import Simulator, compiled_parameters, episode_world
from edgebrush.sim.world import advance, decide, observe, reset

MEASURE_S = 3.0
FIRST_STEP = """
import time
start = time.perf_counter()
import numpy as np
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.simulator import Simulator
simulator = Simulator(load_scenario("campus"), 1)
simulator.reset(np.zeros(1))
simulator.step(np.zeros(1))
print(time.perf_counter() - start)
"""


@compiled
def cheapest(observation, slots, features, per_slot):
    """The choice of least expected cost among the candidates that are present."""
    best, least = 0, np.inf
    first = TASK_FEATURES + slots * features
    for s in range(slots):
        if observation[TASK_FEATURES + s * features + PRESENT] == 0.0:
            continue
        for c in range(s * per_slot, (s + 1) * per_slot):
            if observation[first + c] < least:
                best, least = c, observation[first + c]
    return best


@compiled(entry=True)
def play_all(first, last, arrays, worlds, seeds, horizon_s, features, observations, decisions):
    """Play one whole episode per seed; ``decisions (E,)`` counts what was decided."""
    params = compiled_parameters(arrays)
    for e in range(first, last):
        world = episode_world(worlds, e)
        slots, per_slot = params.common[0].neighbours + 1, params.common[0].steps * params.common[0].classes
        reset(params, world, seeds[e], horizon_s)
        while advance(params, world):
            observe(params, world, observations[e])
            decide(params, world, cheapest(observations[e], slots, features, per_slot))
        decisions[e] = world.episode[0].decisions


def decisions_per_s(scenario: Scenario, episodes: int, threads: int) -> float:
    """The best of the runs that fit into the time; the first, which compiles, does not count."""
    simulator = Simulator(scenario, episodes, threads=threads)
    decisions = np.zeros(episodes, np.int64)
    best, until, run = 0.0, np.inf, 0
    while time.perf_counter() < until:
        seeds = np.arange(episodes) + run * episodes
        start = time.perf_counter()
        simulator.spread(
            play_all,
            simulator.params,
            simulator.worlds,
            seeds,
            scenario.horizon_s,
            simulator.layout.candidate_features,
            simulator.observations,
            decisions,
        )
        if run > 0:
            best = max(best, decisions.sum() / (time.perf_counter() - start))
        else:
            until = time.perf_counter() + MEASURE_S
        run += 1
    return best


def measure(preset: str) -> str:
    """A row of the table. In a process of its own, so that the peak of memory is this preset's."""
    scenario = load_scenario(preset)
    tasks = scenario.task_rate_hz * scenario.horizon_s
    threads = CORES
    episodes = max(2 * threads, round(100_000 / tasks))
    one = decisions_per_s(scenario, episodes, 1)
    every = decisions_per_s(scenario, episodes, threads)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = f"{scenario.ue_count:>6}{scenario.bs_count:>5}"
    return f"{preset:<12}{size}{episodes:>10}{one:>14,.0f}{every:>14,.0f}{1e6 / one:>12.2f}{peak_mb:>10,.0f}"


def in_new_process(*arguments: str, **environment: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True, text=True).stdout


def main(presets: list[str]) -> None:
    with tempfile.TemporaryDirectory() as cache:
        for state in ("an empty cache", "a warm cache"):
            seconds = float(in_new_process("-c", FIRST_STEP, XDG_CACHE_HOME=cache))
            print(f"import to first step with {state}: {seconds:.1f} s")
    cores = CORES
    print(
        f"{'preset':<12}{'UEs':>6}{'BSs':>5}{'episodes':>10}{'1 core, /s':>14}{f'{cores} cores, /s':>14}"
        f"{'1 core, µs':>12}{'peak, MB':>10}"
    )
    for preset in presets or preset_names():
        print(in_new_process(__file__, "--row", preset).strip(), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:
        print(measure(sys.argv[2]))
    else:
        main(sys.argv[1:])
