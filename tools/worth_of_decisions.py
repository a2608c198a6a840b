"""What each of the three decisions is worth in a preset: the best tuned rule with one decision frozen at a time.

    python tools/worth_of_decisions.py campus docs/results/campus-decisions.csv

The priced greedy rule is tuned anew for every way to freeze a decision, each with the same budget, and valued on
the same validation episodes. A decision's worth is what the best way to freeze it costs.
"""

import sys
from pathlib import Path

from edgebrush.files import check_writable, write_csv
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.schema import Scenario
from edgebrush.tuning.cmaes import Budget
from edgebrush.tuning.rules import tune

BUDGET = Budget(1280, 32)
FROZEN = {
    "nothing": [{}],
    "place": [{"neighbours": 0}, {"neighbours": 1, "local": False}],
    "steps": [{"step_grid": (steps,)} for steps in (4, 6, 8, 10)],
    "class": [{"classes": 1}],
}


def freeze(scenario: Scenario, change: dict) -> Scenario:
    fields = scenario.model_dump() | {"directory": scenario.directory}
    return Scenario.model_validate(fields | {"decision": fields["decision"] | change})


def main(preset: str, out: Path) -> None:
    scenario = load_scenario(preset)
    best: dict[str, float] = {}
    rows = []
    for frozen, changes in FROZEN.items():
        costs = {str(change): tune(freeze(scenario, change), "priced-greedy", BUDGET).cost for change in changes}
        best[frozen] = min(costs.values())
        for change, cost in costs.items():
            extra = 100.0 * (cost / best["nothing"] - 1.0)
            rows.append({"frozen": frozen, "as": change, "cost": f"{cost:.5f}", "extra_percent": f"{extra:.2f}"})
            print(*rows[-1].values(), sep="\t", flush=True)
    check_writable(out.parent)
    write_csv(out, rows)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
