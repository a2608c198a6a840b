"""What an agent's journal costs: time of the event loop per task, time until a task is durable, bytes on the disk.

    python benchmarks/journal.py                     two minutes, on the disk of the current folder
    python benchmarks/journal.py --quick             the same in seconds, to see that it runs
    python benchmarks/journal.py --folder DIR        on the disk of another folder

Per task the journal looks up the id, accepts the task, records "decided" (with a reason of 600 bytes) and "sent",
and ends the task with an image. Tasks come one after the other, or several at once. The loop's time is the processor
time of its thread: the writer's thread and the disk do not delay it. A stall is how late a 1 ms timer of the same loop
was. A second table shows that nothing grows: tasks with images of 20 kB, of which the journal keeps 500. Tables are
printed, and written to --out together with the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgebrush.files import check_writable, write_csv, write_text
from edgebrush.journal.database import FILE
from edgebrush.journal.journal import Journal
from edgebrush.journal.records import Task, TaskResult
from edgebrush.machine import processor_name

REASON = {"expected_cost": 0.25, "expected_s": 1.5, "best": {"own": 0.5, "large": 0.25}, "loads": "x" * 500}
TIMER_S = 0.001


@dataclass(frozen=True)
class Row:
    """Milliseconds, unless stated otherwise."""

    at_once: int
    image_kb: int
    loop_ms: float  # processor time of the event loop's thread per task
    accept_p50: float
    accept_p99: float
    end_p50: float
    end_p99: float
    stall_p99: float
    tasks_per_s: float
    disk_kb: float  # per task, without the image


async def measure(folder: Path, tasks: int, at_once: int, image_kb: int) -> Row:
    journal, image = Journal(folder), os.urandom(1024 * image_kb)
    accepts: list[float] = []
    ends: list[float] = []
    stalls: list[float] = []

    async def one(number: int) -> None:
        name = f"{number:032x}-0"
        assert journal.task(name) is None and journal.result(name) is None
        start = time.perf_counter()
        await journal.accept(Task(name, "a photograph of a bag on a table", "waiting", number, fingerprint="0" * 64))
        accepts.append(time.perf_counter() - start)
        journal.write(name, "decided", place="large", steps=10, service_class=1, **REASON)
        journal.write(name, "sent", place="large")
        start = time.perf_counter()
        await journal.end(TaskResult(name, image, "", "large", 10, 1, 1.5, 0.5, 1.0, 0.1, 0.5, False, 1))
        ends.append(time.perf_counter() - start)

    async def watch() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(TIMER_S)
            stalls.append(time.perf_counter() - start - TIMER_S)

    start_s, start_cpu_s = time.perf_counter(), time.thread_time()
    for first in range(0, tasks, at_once):
        await asyncio.gather(*(one(first + number) for number in range(at_once)))
    loop_s, total_s = time.thread_time() - start_cpu_s, time.perf_counter() - start_s
    watching = asyncio.create_task(watch())
    for first in range(tasks, tasks + tasks // 4, at_once):  # again, with the timer
        await asyncio.gather(*(one(first + number) for number in range(at_once)))
    watching.cancel()
    journal.close()
    disk_kb = sum(path.stat().st_size for path in folder.iterdir()) / 1024 / len(ends) - image_kb
    quantiles = [1e3 * float(value) for each in (accepts, ends) for value in np.quantile(each, (0.5, 0.99))]
    stall_ms = 1e3 * float(np.quantile(stalls, 0.99))
    return Row(at_once, image_kb, 1e3 * loop_s / tasks, *quantiles, stall_ms, tasks / total_s, disk_kb)


@dataclass(frozen=True)
class Size:
    """The database and its log after some tasks, and the process's memory, in MiB."""

    tasks: int
    database_mib: float
    log_mib: float
    memory_mib: float


async def measure_growth(folder: Path, tasks: int) -> list[Size]:
    journal, image, sizes = Journal(folder, keep_tasks=500), os.urandom(20_000), []

    async def one(number: int) -> None:
        await journal.accept(Task(f"t{number}", "a photograph of a bag", "waiting", number))
        journal.write(f"t{number}", "decided", **REASON)
        await journal.end(TaskResult(f"t{number}", image))

    for first in range(0, tasks, 50):
        await asyncio.gather(*(one(first + number) for number in range(50)))
        if (first + 50) % (tasks // 5) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            files = [(folder / name).stat().st_size / 2**20 for name in (FILE, f"{FILE}-wal")]
            sizes.append(Size(first + 50, *files, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))
    journal.close()
    return sizes


def table(rows: Sequence[Row | Size]) -> str:
    names = list(asdict(rows[0]))
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    lines += [
        "| "
        + " | ".join(f"{value:.5g}" if isinstance(value, int) else f"{value:.3g}" for value in asdict(row).values())
        + " |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=800, help="per row")
    parser.add_argument("--quick", action="store_true", help="few tasks")
    parser.add_argument("--folder", type=Path, default=Path("."), help="where journals are written and removed")
    parser.add_argument("--out", type=Path, default=Path("docs/results/journal"))
    options = parser.parse_args()
    tasks, rows = 100 if options.quick else options.tasks, []
    for at_once, image_kb in ((1, 2), (10, 2), (100, 2), (1, 1000)):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            count = tasks if image_kb < 100 else tasks // 8
            rows.append(asyncio.run(measure(Path(folder), count, at_once, image_kb)))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        sizes = asyncio.run(measure_growth(Path(folder), 1000 if options.quick else 20_000))
    load = os.getloadavg()[0]
    print(f"{processor_name()}, SQLite {sqlite3.sqlite_version}, load average {load:.1f}\n")
    print(table(rows), table(sizes), sep="\n\n")
    check_writable(options.out)
    write_csv(options.out / "journal.csv", [asdict(row) for row in rows])
    write_csv(options.out / "growth.csv", [asdict(row) for row in sizes])
    about = {
        "command": " ".join(["python", "benchmarks/journal.py", *sys.argv[1:]]),
        "processor": processor_name(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_average": load,
    }
    write_text(options.out / "machine.json", json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
