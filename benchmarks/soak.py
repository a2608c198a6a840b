"""Run tasks through two agents and three stations under storms of random faults, and check that nothing is lost.

    python benchmarks/soak.py                                   100,000 tasks, into docs/results/soak
    python benchmarks/soak.py --tasks 2000 --out /tmp/soak      a short one
    python benchmarks/soak.py --seed 7 --storm 12 --tasks 2000  replay from a storm on

Writes README.md, soak.csv (counts), recoveries.csv, processes.csv (memory and descriptors over time) and soak.png. It
reports counts, not speeds. The exit code is 1 if an invariant was violated; the processes' logs and journals then stay
in the folder that the message names. Do not change the sources while it runs: restarted processes load them anew.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edgebrush.files import write_csv, write_text
from edgebrush.plotting import COLOURS, save_figure
from edgebrush.soak.fault_schedule import KINDS
from edgebrush.soak.run import RECOVERY_S, Soak, run_soak
from edgebrush.soak.vital_signs import VitalSigns
from edgebrush.soak.world import make_testbed

PAGE = """\
# Soak
This page shows that a running system loses nothing and stays flat under faults in sequence
([Testbed](../../testbed.md#faults-in-sequence)). `python benchmarks/soak.py --tasks {tasks} --seed {seed}`: two agents
and three stations as processes, {storms} storms of random faults, a calm after each, {minutes:.0f} minutes in all.
{verdict}

Counts ([soak.csv](soak.csv)):

| what | number |
|---|---|
{counts}

| fault | what happens | injected |
|---|---|---|
{faults}

**Recovery**: after each storm every agent must use every station again within {limit:g} s of the end of the last fault
that affected both ([recoveries.csv](recoveries.csv)). It did in {within} of {recoveries} cases; the longest took
{worst:.1f} s, the median {median:.1f} s.

**Memory and descriptors** at the end of each calm ([processes.csv](processes.csv)). `station-3` and `ue-2` are never
killed.

| process | MB at its first calm | at the end | descriptors at its first calm | at the end |
|---|---|---|---|---|
{processes}

![Memory and descriptors over the tasks](soak.png)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storm", type=int, default=0, help="number of the first storm")
    parser.add_argument("--rate", type=float, default=60.0, help="requests per second between bursts")
    parser.add_argument("--out", type=Path, default=Path("docs/results/soak"))
    options = parser.parse_args()
    if options.tasks < 1 or options.rate <= 0:
        parser.error("--tasks and --rate must be positive")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"seed {options.seed}, logs and journals: {folder}", flush=True)
    soak = run_soak(
        make_testbed(folder), options.seed, options.tasks, options.rate, first_storm=options.storm, report=show
    )
    options.out.mkdir(parents=True, exist_ok=True)
    write(soak, options.tasks, options.out)
    print((options.out / "README.md").read_text())
    if not soak.violations:
        shutil.rmtree(folder)
    return int(bool(soak.violations))


def show(line: str) -> None:
    print(line, flush=True)


def write(soak: Soak, tasks: int, folder: Path) -> None:
    """Write the tables, the picture and the page."""
    counts = count_rows(soak)
    write_csv(folder / "soak.csv", [{"what": name, "number": number} for name, number in counts.items()])
    write_csv(
        folder / "recoveries.csv", [asdict(each) | {"seconds": f"{each.seconds:.2f}"} for each in soak.recoveries]
    )
    write_csv(folder / "processes.csv", [asdict(each) | {"at_s": f"{each.at_s:.1f}"} for each in soak.signs])
    save_figure(lambda: plot(soak.signs), folder / "soak.png")
    seconds = sorted(each.seconds for each in soak.recoveries) or [0.0]
    page = PAGE.format(
        tasks=tasks,
        seed=soak.seed,
        storms=soak.storms,
        minutes=soak.seconds / 60.0,
        verdict="\n".join(f"**Violated**: {each}\n" for each in soak.violations) or "**No invariant was violated.**",
        counts="\n".join(f"| {name} | {number:,} |" for name, number in counts.items()),
        faults="\n".join(f"| `{kind}` | {what} | {soak.faults[kind]} |" for kind, what in KINDS.items()),
        limit=RECOVERY_S,
        within=sum(each <= RECOVERY_S for each in seconds),
        recoveries=len(soak.recoveries),
        worst=seconds[-1],
        median=seconds[len(seconds) // 2],
        processes="\n".join(process_rows(soak.signs)),
    )
    write_text(folder / "README.md", page)


def count_rows(soak: Soak) -> dict[str, int]:
    """The accounts, by name."""
    return {
        "requested": soak.requested,
        "images": soak.images,
        **{f"images made by {place}": count for place, count in sorted(soak.places.items())},
        "errors": soak.errors.total(),
        **{f"errors: {kind}": count for kind, count in soak.errors.most_common()},
        "lost": soak.lost,
        "accepted or ended twice": soak.twice,
        "failed over to another place": soak.failed_over,
        "storms": soak.storms,
        "faults": soak.faults.total(),
        "violations": len(soak.violations),
    }


def by_process(signs: Iterable[VitalSigns]) -> dict[str, list[VitalSigns]]:
    ordered = sorted(signs, key=lambda each: (each.process, each.at_s))
    return {process: list(samples) for process, samples in groupby(ordered, lambda each: each.process)}


def process_rows(signs: Iterable[VitalSigns]) -> list[str]:
    """The table's rows: the first and the last sample of each process that ran at the end."""
    rows = []
    for process, samples in by_process(signs).items():
        last = samples[-1]
        first = next(each for each in samples if each.pid == last.pid)
        rows.append(
            f"| {process} | {first.memory_bytes / 1e6:.0f} | {last.memory_bytes / 1e6:.0f} | {first.descriptors} | "
            f"{last.descriptors} |"
        )
    return rows


def plot(signs: Iterable[VitalSigns]) -> Figure:
    """Memory and descriptors of each process over the tasks; a gap is a restart."""
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    memory, descriptors = figure.subplots(1, 2)
    for colour, (process, samples) in zip(COLOURS, by_process(signs).items(), strict=False):
        for _, life in groupby(samples, lambda each: each.pid):
            lived = list(life)
            tasks = [each.tasks for each in lived]
            label = process if lived[0] is samples[0] else None
            line(memory, tasks, [each.memory_bytes / 1e6 for each in lived], colour, label)
            line(descriptors, tasks, [each.descriptors for each in lived], colour, label)
    memory.set(title="resident memory, MB", xlabel="tasks", ylim=(0, None))
    descriptors.set(title="open descriptors", xlabel="tasks", ylim=(0, None))
    memory.legend(loc="lower right", ncols=2)
    return figure


def line(axes: Axes, tasks: list[int], values: list[float], colour: str, label: str | None) -> None:
    axes.plot(tasks, values, color=colour, label=label, linewidth=1.2, marker=".", markersize=3)


if __name__ == "__main__":
    sys.exit(main())
