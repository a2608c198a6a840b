"""Compare policies from Python: change a preset, look at its environment, train, compare, use the policy.

python examples/compare.py          # a proper run, some minutes
python examples/compare.py --quick  # a few seconds of everything, to see that it works
"""

import argparse
from pathlib import Path

import numpy as np

import edgebrush

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--out", type=Path, default=Path("runs/example"), help="the run folder")
parser.add_argument("--quick", action="store_true", help="a few seconds of everything")
arguments = parser.parse_args()

# A preset, changed: half the arrivals. `Scenario` is a pydantic model; what is not sensible is refused.
campus = edgebrush.load_scenario("campus")
arrivals = campus.arrivals.model_copy(update={"rate_hz": campus.arrivals.rate_hz / 2})
scenario = campus.model_copy(update={"name": "quiet-campus", "arrivals": arrivals})
if arguments.quick:
    scenario = scenario.model_copy(update={"horizon_s": 20.0})

# The environment that the learner sees: one decision of one phone at a time.
environment = edgebrush.make(scenario, kind="vector", episodes=4)
observations, infos = environment.reset(seed=0)
print(f"{observations.shape[1]} numbers observed, {infos['action_mask'].shape[1]} joint choices")

# The main job: rules tuned, MAPPO trained, all played on the same episodes no one has seen.
budget = {"decisions": 60_000, "episodes": 4} if arguments.quick else {"seconds": 120.0}
run = edgebrush.compare(scenario, arguments.out, seeds=1, overwrite=True, **budget)
for name in run.ranking:
    cost = run.results["policies"][name]["cost"]
    print(f"{name:16} {cost['mean']:.4f}  [{cost['ci_low']:.4f}, {cost['ci_high']:.4f}]")

# A trained policy is a folder; loaded, it decides on observations by NumPy alone.
policy = edgebrush.load_policy(arguments.out / "policies" / "mappo" / "seed-1", scenario)
choices = policy.choose(observations, np.full(len(observations), 0.5))
print(f"MAPPO's first four choices: {choices.tolist()}; the report: {arguments.out / 'report.html'}")
