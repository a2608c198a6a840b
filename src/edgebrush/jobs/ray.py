"""The executor on a Ray cluster (the extra ``[ray]``): each job is a task with one core, on any of the nodes.

The nodes need no common folder. A task gets everything that its job reads, works in a temporary folder, and returns the
contents of its result, which the driver writes into the cache. So a lost node leaves nothing half-written, and a job
that was on it starts again from where it was when it was handed out.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import tempfile
import time
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from edgebrush.errors import UserError
from edgebrush.learning import WorkerLost
from edgebrush.learning.launcher import ONE_THREAD
from edgebrush.progress import ShareCallback

from .executor import Job
from .local import LocalExecutor
from .transfer import Contents, Parcel, read_contents, write_contents

QUEUED = 256  # tasks that wait or run; Ray runs as many as the cluster has cores, also those of nodes that join later
INTERVAL_S = 2.0  # between two reports of a job
GRACE_S = 60.0  # for jobs to save and return what they have, when they are interrupted
PACKAGES = ("edgebrush", "numpy", "numba", "scipy", "jax", "jaxlib", "equinox", "optax")  # the numbers depend on them
TASK_OPTIONS = {
    "num_cpus": 1,
    "max_retries": 0,  # ``run_jobs`` retries
    "runtime_env": {"env_vars": ONE_THREAD},  # set before a worker imports NumPy
}


class Board:
    """An actor beside the driver. Tasks report their progress to it and learn from it that they are to stop."""

    def __init__(self) -> None:
        self.shares: dict[str, float] = {}
        self.stopping = False

    def report(self, task: str, share: float) -> bool:
        """Note the progress of a task; returns whether it is to stop."""
        self.shares[task] = share
        return self.stopping

    def share(self, task: str, stopping: bool) -> float | None:
        """The progress of a task, None before it has started. ``stopping`` tells all tasks to stop."""
        self.stopping |= stopping
        return self.shares.get(task)


def work(parcel: Parcel, board: Any, task: str, versions: dict[str, str]) -> Contents:
    """The Ray task: run a job on this node.

    Returns the contents of its result, or what it saved when it was told to stop. Raises ``RuntimeError`` where the
    node has other versions of packages than the driver.
    """
    here, node = package_versions(), os.uname().nodename
    if differing := [f"{name} {here[name]}, not {versions[name]}" for name in PACKAGES if here[name] != versions[name]]:
        raise RuntimeError(f"node {node} has {'; '.join(differing)}: install the driver's versions there")
    executor, due, answer = LocalExecutor(1), 0.0, Future[bool]()

    def report(share: float) -> None:
        nonlocal due, answer
        if answer.done() and answer.result():
            raise KeyboardInterrupt
        if time.monotonic() >= due:
            due = time.monotonic() + INTERVAL_S
            answer = board.report.remote(task, share).future()  # while a task waits, Ray gives its core to another one

    with tempfile.TemporaryDirectory(prefix="edgebrush-") as folder:
        job = parcel.unpack(Path(folder))
        try:
            report(0.0)
            executor.run(job, report)
        except KeyboardInterrupt:
            executor.interrupt()
        return read_contents(job.path)


class RayExecutor:
    """Runs jobs on a Ray cluster, at most ``slots`` at once (default: as many as the cluster has cores).

    ``address`` is ``local`` for a cluster of this process on the loopback interface, ``auto`` for the one that this
    machine is part of, or the ``HOST:PORT`` of one. Use it in a ``with`` block. Raises ``UserError`` where Ray is not
    installed or there is no cluster.
    """

    def __init__(self, address: str, slots: int | None = None):
        self.slots = slots or QUEUED
        self.deadline = math.inf  # of interrupted jobs
        self.versions = package_versions()
        self.ray = ray = _connect(address, slots)
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self.task = ray.remote(**TASK_OPTIONS)(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ray.shutdown()

    def run(self, job: Job, on_progress: ShareCallback) -> None:
        """Run a job as a task and write its result into the cache; see ``Executor``."""
        errors, name = self.ray.exceptions, secrets.token_hex(8)
        try:
            task = self.task.remote(Parcel.of(job), self.board, name, self.versions)
            self._wait(task, name, on_progress)
            write_contents(job.path, self.ray.get(task))
        except (WorkerLost, errors.RayTaskError):  # raised in the job
            raise
        except errors.TaskCancelledError:
            raise KeyboardInterrupt from None
        except errors.RayError as error:
            raise WorkerLost(f"its worker or node was lost ({type(error).__name__})") from error
        if not job.done:  # it was told to stop
            raise KeyboardInterrupt

    def _wait(self, task: Any, name: str, on_progress: ShareCallback) -> None:
        """Wait for the task's end and report its progress. After an interruption, cancel it if it does not stop."""
        while not self.ray.wait([task], timeout=INTERVAL_S)[0]:
            stopping = self.deadline < math.inf
            share = self.ray.get(self.board.share.remote(name, stopping))
            if share is not None:
                on_progress(share)
            if stopping and (share is None or time.monotonic() > self.deadline):
                self.ray.cancel(task, force=True)

    def interrupt(self) -> None:
        """Let ``run`` cancel the tasks that wait and stop the running ones, whose trainings' checkpoints come back.

        It asks nothing of Ray: in the main thread, after a signal, such a call can hang.
        """
        self.deadline = time.monotonic() + GRACE_S


def package_versions() -> dict[str, str]:
    """The versions of the packages on which the results depend."""
    return {name: version(name) for name in PACKAGES}


def _connect(address: str, slots: int | None) -> Any:
    """Start or join a cluster; returns the module ``ray``. Raises ``UserError``."""
    if "://" in address:
        raise UserError(f"ray = {address!r}: run this command on a node of the cluster, and give auto or its HOST:PORT")
    options: dict[str, Any] = {"address": address}
    if address == "local":
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray then listens on the loopback interface alone
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # other users of the machine
        options |= {"num_cpus": slots or os.cpu_count(), "include_dashboard": False}
    elif address != "auto":
        _check_answers(address)  # Ray itself tries for two minutes
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise Ray sends statistics to its makers
    try:
        import ray
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        raise UserError(f"ray = {address!r}: needs {error.name}; `pip install '.[ray]'`") from None
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"ray = {address!r}: no cluster can be used there: {reason}") from None
    return ray


def _check_answers(address: str) -> None:
    """Raise ``UserError`` unless something listens at ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"ray = {address!r}: no cluster answers there ({error}); give local, auto, or the HOST:PORT that "
            "`ray start --head` printed"
        ) from None
