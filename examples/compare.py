"""Compare policies from Python: change a preset, make its environment, train, compare, use the trained policy.

python examples/compare.py          # a full run, some minutes
python examples/compare.py --quick  # a short run that checks that everything works
"""

import argparse
from pathlib import Path

import numpy as np

import edgebrush

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--out", type=Path, default=Path("runs/example"), help="run folder")
parser.add_argument("--quick", action="store_true", help="a short run that checks that everything works")
arguments = parser.parse_args()

# A preset with half the arrivals. `Scenario` is a pydantic model, so impossible values are refused.
campus = edgebrush.load_scenario("campus")
arrivals = campus.arrivals.model_copy(update={"rate_hz": campus.arrivals.rate_hz / 2})
scenario = campus.model_copy(update={"name": "quiet-campus", "arrivals": arrivals})
if arguments.quick:
    scenario = scenario.model_copy(update={"horizon_s": 20.0})

# The environment that a learner sees: one decision of one phone at a time, in 4 episodes at once.
environment = edgebrush.make(scenario, kind="vector", episodes=4)
observations, infos = environment.reset(seed=0)
print(f"{observations.shape[1]} numbers observed, {infos['action_mask'].shape[1]} joint choices")

# Tune the rules, train MAPPO, evaluate all of them on the same held-out episodes.
budget = {"decisions": 60_000, "episodes": 4} if arguments.quick else {"seconds": 120.0}
run = edgebrush.compare(scenario, arguments.out, seeds=1, overwrite=True, **budget)
for name in run.ranking:
    cost = run.results["policies"][name]["cost"]
    print(f"{name:16} {cost['mean']:.4f}  [{cost['ci_low']:.4f}, {cost['ci_high']:.4f}]")

# A trained policy is a folder. The loaded policy decides with NumPy alone.
policy = edgebrush.load_policy(arguments.out / "policies" / "mappo" / "seed-1", scenario)
choices = policy.choose(observations, np.full(len(observations), 0.5))
print(f"MAPPO's first four choices: {choices.tolist()}; the report: {arguments.out / 'report.html'}")
