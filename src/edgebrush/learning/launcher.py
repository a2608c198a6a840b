"""Several training seeds side by side: one single-threaded process each, as many at once as there are cores.

A second thread hardly speeds up one training (the matrices are small), but a second training costs nothing on a
second core. A worker is this file run as a program; it says each row of its curve as a line of JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgebrush.errors import UserError
from edgebrush.files import write_csv, write_text
from edgebrush.scenario.schema import Scenario

from . import CHECKPOINT, CURVE
from .registry import algorithm_of

SAVED_EVERY_S = 30.0
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
}


def train(
    scenario: Scenario,
    algorithm: str,
    config: Any,
    seeds: Sequence[int],
    folder: Path,
    prices: np.ndarray | None,
    progress: Callable[[dict], None] = lambda row: None,
    workers: list[subprocess.Popen] | None = None,
) -> list[Path]:
    """Train one policy per seed into ``folder/seed-<n>``; ``folder`` also gets the curve and TensorBoard's files.

    ``algorithm`` is a name of ``ALGORITHMS`` and ``config`` one of its own. ``prices``: the tuned priced greedy
    rule's numbers to start from; None starts from no prices. ``progress`` hears each row of the curve, and in it
    the ``share`` of that seed's training that is done. Where ``folder`` holds a checkpoint the training goes on
    from it, exactly; it is removed when all seeds are done. With more seeds than cores, ``config.seconds`` is
    shared among the waves. ``workers`` gets every process, for a caller who runs this in a thread, where no Ctrl-C
    arrives: SIGINT makes one save its checkpoint and end. Raises ``UserError`` where the checkpoint is another
    training's, ``RuntimeError`` where a worker fails.
    """
    home = folder / CHECKPOINT
    home.mkdir(parents=True, exist_ok=True)
    at_once = min(len(seeds), os.cpu_count() or 1)
    settings = asdict(config)
    if config.seconds is not None:
        settings["seconds"] = config.seconds / -(-len(seeds) // at_once)
    work = {
        "algorithm": algorithm,
        "scenario": scenario.model_dump(mode="json"),
        "directory": str(scenario.directory.absolute()),
        "config": settings,
        "prices": None if prices is None else np.asarray(prices).tolist(),
    }
    _agree(home / "work.json", work)
    workers = [] if workers is None else workers
    with ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(_follow, folder, seed, workers, progress) for seed in seeds]
        try:
            for each in waiting:
                each.result()
        except BaseException:
            for each in waiting:
                each.cancel()
            for worker in workers:
                if worker.poll() is None:
                    worker.send_signal(signal.SIGINT)  # it saves its checkpoint and ends
            raise
    _join_curves(home, folder / CURVE)
    shutil.rmtree(home)
    return [folder / f"seed-{seed}" for seed in seeds]


def _agree(path: Path, work: dict) -> None:
    """Keep what the training is, or see that the one begun there is the same."""
    if not path.exists():
        write_text(path, json.dumps(work))
        return
    begun = json.loads(path.read_text())
    if begun["algorithm"] != work["algorithm"]:
        raise UserError(
            f"{path.parent}: the training there is of {begun['algorithm']}, not of {work['algorithm']}; "
            "give another folder"
        )
    for field, value in work["config"].items():
        if begun["config"][field] != value:
            raise UserError(
                f"{path.parent}: the training there was begun with {field} = {begun['config'][field]}, not {value}; "
                "resume it with the same settings or give another folder"
            )
    if begun["scenario"] != work["scenario"]:
        raise UserError(f"{path.parent}: the training there is of another scenario; give another folder")


def _follow(folder: Path, seed: int, workers: list, progress: Callable[[dict], None]) -> None:
    """Run one seed's worker to its end."""
    command = [sys.executable, "-m", "edgebrush.learning.launcher", str(folder), str(seed)]
    with open(folder / CHECKPOINT / f"seed-{seed}.log", "w+b") as log:
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **ONE_THREAD})
        workers.append(worker)
        for line in worker.stdout or ():
            progress(json.loads(line))
        if worker.wait() != 0:
            log.seek(0)
            raise RuntimeError(f"training seed {seed} failed:\n{log.read().decode(errors='replace')[-2000:]}")


def _join_curves(home: Path, out: Path) -> None:
    rows = [json.loads(line) for path in sorted(home.glob("*.jsonl")) for line in path.open()]
    write_csv(out, rows)


def _work(folder: Path, seed: int) -> None:
    """A worker's whole life: build or take up the training, update until it is done, leave the policy."""
    import jax
    from tensorboardX import SummaryWriter

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edgebrush" / "jax"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    stop = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    home = folder / CHECKPOINT
    work = json.loads((home / "work.json").read_text())
    scenario = Scenario.model_validate({**work["scenario"], "directory": work["directory"]})
    prices = None if work["prices"] is None else np.array(work["prices"])
    algorithm = algorithm_of(work["algorithm"])
    training = algorithm.training(scenario, algorithm.config(**work["config"]), seed, prices)
    checkpoint = home / f"seed-{seed}.npz"
    if checkpoint.exists():
        training.load(checkpoint)
    saved = time.monotonic()
    with SummaryWriter(str(folder / "tensorboard" / f"seed-{seed}"), purge_step=len(training.rows)) as board:
        while (training.share < 1.0 or not training.rows) and not stop.is_set():
            row = training.step()
            print(json.dumps({**row, "share": min(training.share, 1.0)}), flush=True)
            for name, value in row.items():
                board.add_scalar(name, value, row["update"])
            if time.monotonic() - saved > SAVED_EVERY_S:
                training.save(checkpoint)
                saved = time.monotonic()
    training.save(checkpoint)
    if stop.is_set():
        raise SystemExit(130)
    write_text(home / f"seed-{seed}.jsonl", "".join(json.dumps(row) + "\n" for row in training.rows))
    training.save_policy(folder / f"seed-{seed}")


if __name__ == "__main__":
    _work(Path(sys.argv[1]), int(sys.argv[2]))
