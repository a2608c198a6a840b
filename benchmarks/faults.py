"""Count images, errors, lost tasks and repeated tasks of the testbed under each fault.

    python benchmarks/faults.py                      all faults, 12 s of arrivals each, into docs/results/faults
    python benchmarks/faults.py --seconds 10 --faults kill-bs,freeze-bs --out /tmp/faults

The world is the preset testbed with half the phones. Each sends three times as many requests and has a device a quarter
as fast, so nearly all tasks go to the BSs. Writes faults.csv and the same table as README.md. The exit code is 1 if a
task was lost or ended twice.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import yaml

from edgebrush.files import write_csv, write_text
from edgebrush.scenario.load import load_scenario
from edgebrush.sim.episode_seeds import HELD_OUT_SEEDS
from edgebrush.testbed.episode import draw_episode
from edgebrush.testbed.faults import FAULTS, run_fault
from edgebrush.testbed.outcomes import Audit

POLICY = "selfish-greedy"  # it has no parameters to tune for this world

INTRODUCTION = """\
# Faults
This page shows that every task ends exactly once under each fault of the [testbed](../../testbed.md#faults).
`python benchmarks/faults.py`: {seconds:g} s of arrivals at two base stations and three phones under the rule
`selfish-greedy`, with one fault each, injected after 30% of that time. Requested = images + errors. Lost tasks never
ended; twice means ended more than once. "Failed over" counts failed attempts at a place. The task then went elsewhere.
"""


def world(folder: Path) -> str:
    """Write the scenario file of this benchmark into a folder and return its path."""
    content = load_scenario("testbed").model_dump(mode="json")
    content["ues"] = [
        ue | {"count": ue["count"] // 2, "speed": 0.25 * ue["speed"], "rate_factor": 3.0} for ue in content["ues"]
    ]
    path = folder / "faults.yaml"
    path.write_text(yaml.safe_dump(content | {"name": "faults"}, sort_keys=False))
    return str(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--out", type=Path, default=Path("docs/results/faults"))
    options = parser.parse_args()
    found: dict[str, Audit] = {}
    with tempfile.TemporaryDirectory() as temporary:
        source = world(Path(temporary))
        episode = draw_episode(load_scenario(source), HELD_OUT_SEEDS, options.seconds)
        for name in options.faults.split(","):
            found[name] = run_fault(name, source, episode, POLICY, Path(temporary) / name)
            print(f"{name}: {found[name]}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write(found, options.seconds, options.out)
    return int(any(each.lost or each.twice for each in found.values()))


def write(found: dict[str, Audit], seconds: float, folder: Path) -> None:
    """Write the audits as CSV and as a Markdown page."""
    columns = [name.replace("_", " ") for name in asdict(next(iter(found.values())))]
    write_csv(folder / "faults.csv", [{"fault": name, **each.entries()} for name, each in found.items()])
    lines = [INTRODUCTION.format(seconds=seconds)]
    lines.append("| fault | what happens | " + " | ".join(columns) + " |")
    lines.append("|---|---|" + "---|" * len(columns))
    for name, each in found.items():
        lines.append(f"| `{name}` | {FAULTS[name].description} | " + " | ".join(map(str, asdict(each).values())) + " |")
    write_text(folder / "README.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
