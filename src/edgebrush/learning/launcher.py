"""The launcher: trains several seeds in parallel, one single-threaded process per seed.

The matrices are small, so a second thread hardly speeds up one training, but a second core can run a second training.
A worker runs this module as a program and prints each row of its curve as a line of JSON.
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

from . import CHECKPOINT, CURVE, WorkerLost
from .registry import Config, algorithm_of

RowCallback = Callable[[dict[str, Any]], None]  # gets each row of the curve

SPECIFICATION = "work.json"  # in the checkpoint's folder: the training that a worker is to run
CHECKPOINT_INTERVAL_S = 30.0
STOPPED = 130  # exit code of a worker that saved its checkpoint after a signal
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
    config: Config,
    seeds: Sequence[int],
    folder: Path,
    rule_parameters: np.ndarray | None,
    progress: RowCallback = lambda row: None,
    workers: list[subprocess.Popen[bytes]] | None = None,
) -> list[Path]:
    """Train one policy per seed into ``folder/seed-<n>``; the curve and TensorBoard's files go into ``folder``.

    ``algorithm`` is a name of ``ALGORITHMS``, ``config`` a config of it. ``rule_parameters`` are the tuned priced
    greedy rule's, from which the policies start; None: without prices. ``progress`` gets each row of the curve,
    with the ``share`` of that seed's training that is done.

    If ``folder`` holds a checkpoint, the training resumes exactly; the checkpoint is removed when all seeds are done.
    With more seeds than cores, the seeds run in waves that share ``config.seconds``.

    ``workers`` receives every process. A caller who runs this in a thread needs it, because no Ctrl-C arrives there:
    on SIGINT or SIGTERM a worker saves its checkpoint and exits.

    Raises ``UserError`` if the checkpoint is of another training, ``WorkerLost`` if a worker is stopped by a signal,
    ``RuntimeError`` if it fails.
    """
    checkpoint = folder / CHECKPOINT
    checkpoint.mkdir(parents=True, exist_ok=True)
    parallel = min(len(seeds), os.cpu_count() or 1)
    settings = asdict(config)
    if config.seconds is not None:
        settings["seconds"] = config.seconds / -(-len(seeds) // parallel)
    specification = {
        "algorithm": algorithm,
        "scenario": scenario.model_dump(mode="json"),
        "directory": str(scenario.directory.absolute()),
        "config": settings,
        "rule_parameters": None if rule_parameters is None else np.asarray(rule_parameters).tolist(),
    }
    path = checkpoint / SPECIFICATION
    if path.exists():
        check_same_training(path, specification)
    write_text(path, json.dumps(specification))  # also when resuming: the scenario's folder may be another one
    workers = [] if workers is None else workers
    with ThreadPoolExecutor(parallel) as pool:
        futures = [pool.submit(run_worker, folder, seed, workers, progress) for seed in seeds]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            for worker in workers:
                if worker.poll() is None:
                    worker.terminate()  # it saves its checkpoint and exits
            raise
    write_curve(checkpoint, folder / CURVE)
    shutil.rmtree(checkpoint)
    return [folder / f"seed-{seed}" for seed in seeds]


def check_same_training(path: Path, specification: dict[str, Any]) -> None:
    """Raise ``UserError`` if the training that was started there has another specification."""
    started = json.loads(path.read_text(encoding="utf-8"))
    where = path.parent
    if started["algorithm"] != specification["algorithm"]:
        raise UserError(
            f"{where}: holds a training of {started['algorithm']}, not of {specification['algorithm']}; "
            "give another folder"
        )
    if started["config"].keys() != specification["config"].keys():
        raise UserError(
            f"{where}: holds a training that another version of edgebrush started; finish it with that version or "
            "give another folder"
        )
    for field, value in specification["config"].items():
        if started["config"][field] != value:
            raise UserError(
                f"{where}: holds a training with {field} = {started['config'][field]}, not {value}; resume it with the "
                "same settings or give another folder"
            )
    if started["scenario"] != specification["scenario"]:
        raise UserError(f"{where}: holds a training on another scenario; give another folder")


def run_worker(folder: Path, seed: int, workers: list[subprocess.Popen[bytes]], progress: RowCallback) -> None:
    """Run the worker of one seed and wait for it. Raises ``WorkerLost`` or ``RuntimeError``, see ``train``."""
    command = [sys.executable, "-m", "edgebrush.learning.launcher", str(folder), str(seed)]
    with open(folder / CHECKPOINT / f"seed-{seed}.log", "w+b") as log:
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **ONE_THREAD})
        workers.append(worker)
        for line in worker.stdout or ():
            progress(json.loads(line))
        code = worker.wait()
        if code < 0 or code == STOPPED:
            raise WorkerLost(f"the process of training seed {seed} was stopped by a signal (exit code {code})")
        if code != 0:
            log.seek(0)
            raise RuntimeError(f"training seed {seed} failed:\n{log.read().decode(errors='replace')[-2000:]}")


def write_curve(checkpoint: Path, out: Path) -> None:
    """Write the rows of all seeds as one CSV file."""
    rows = [json.loads(line) for path in sorted(checkpoint.glob("*.jsonl")) for line in path.open()]
    write_csv(out, rows)


def worker_main(folder: Path, seed: int) -> None:
    """A worker: start or resume the training of one seed, run it to its end, save the policy."""
    import jax
    from tensorboardX import SummaryWriter

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edgebrush" / "jax"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    started = json.loads((folder / CHECKPOINT / SPECIFICATION).read_text(encoding="utf-8"))
    scenario = Scenario.model_validate({**started["scenario"], "directory": started["directory"]})
    rule_parameters = None if started["rule_parameters"] is None else np.array(started["rule_parameters"])
    algorithm = algorithm_of(started["algorithm"])
    training = algorithm.training(scenario, algorithm.config(**started["config"]), seed, rule_parameters)
    checkpoint = folder / CHECKPOINT / f"seed-{seed}.npz"
    if checkpoint.exists():
        training.load(checkpoint)
    saved = time.monotonic()
    with SummaryWriter(str(folder / "tensorboard" / f"seed-{seed}"), purge_step=len(training.rows)) as board:
        while (training.share < 1.0 or not training.rows) and not stop.is_set():
            row = training.step()
            print(json.dumps({**row, "share": min(training.share, 1.0)}), flush=True)
            for name, value in row.items():
                board.add_scalar(name, value, row["update"])
            if time.monotonic() - saved > CHECKPOINT_INTERVAL_S:
                training.save(checkpoint)
                saved = time.monotonic()
    if training.rows:  # else it was stopped before its first update
        training.save(checkpoint)
    if stop.is_set():
        raise SystemExit(STOPPED)
    rows = "".join(json.dumps(row) + "\n" for row in training.rows)
    write_text(folder / CHECKPOINT / f"seed-{seed}.jsonl", rows)
    training.save_policy(folder / f"seed-{seed}")


if __name__ == "__main__":
    worker_main(Path(sys.argv[1]), int(sys.argv[2]))
