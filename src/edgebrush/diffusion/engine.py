"""Step-level batching: requests of different step counts share a running batch and enter and leave between its steps.

One thread makes the rounds; any thread may submit and cancel. A request's image follows from its prompt, steps and
seed, whoever shares the batch.
"""

from __future__ import annotations

import threading
import time
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgebrush.errors import UserError

from .backend import Backend, Prompt
from .samplers import Sampler, Trajectory

IDLE_S = 0.1  # how long an idle engine sleeps before it looks whether to stop; a submission wakes it
LARGEST_SEED = 2**63 - 1

State = Literal["waiting", "running", "done", "cancelled", "failed"]


class QueueFull(Exception):
    """The engine has no room for another waiting request; try again later."""


@dataclass(frozen=True)
class Request:
    """An image to make. Class 0 is served first."""

    prompt: Prompt
    steps: int
    seed: int
    service_class: int = 0


class Job:
    """A request in the engine, and what became of it.

    ``error`` says in a line why a job failed; ``image`` is there once it is done. ``queue_s`` and ``compute_s`` are the
    seconds from submission to entry and from entry to the end.
    """

    def __init__(self, engine: Engine, request: Request, number: int, on_step: Listener, on_end: Listener):
        self.engine, self.request, self.number = engine, request, number
        self.on_step, self.on_end = on_step, on_end
        self.state: State = "waiting"
        self.steps_done = 0
        self.image: np.ndarray | None = None
        self.error = ""
        self.queue_s = self.compute_s = 0.0
        self.condition: Any = None
        self.trajectory: Trajectory | None = None
        self.cancel_asked = False
        self.since = time.perf_counter()  # of the present state
        self.ended = threading.Event()

    @property
    def order(self) -> tuple[int, int]:
        """By class, then by arrival."""
        return self.request.service_class, self.number

    @property
    def position(self) -> int:
        """The place among the waiting, 1 enters next; 0 for a job that does not wait."""
        return self.engine.position(self)

    def cancel(self) -> None:
        """Take a waiting job out; a running one leaves before its next step. Nothing happens to one that has ended."""
        self.engine.cancel(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job is done, cancelled or failed; False where ``timeout`` seconds were not enough."""
        return self.ended.wait(timeout)

    def enter(self) -> None:
        now = time.perf_counter()
        self.state, self.queue_s, self.since = "running", now - self.since, now

    def end(self, state: State, error: str = "") -> None:
        elapsed = time.perf_counter() - self.since
        if self.state == "running":
            self.compute_s = elapsed
        else:
            self.queue_s = elapsed
        self.state, self.error = state, error
        self.condition = self.trajectory = None
        self.ended.set()
        if self.on_end:
            self.on_end(self)


Listener = Callable[[Job], None] | None


class Engine:
    """Serves requests on one backend with one sampler, ``batch_limit`` at a time.

    At most ``queue_limit`` wait besides; ``max_steps`` bounds the steps of a request.
    """

    def __init__(self, backend: Backend, sampler: Sampler, batch_limit: int, queue_limit: int, max_steps: int):
        self.backend, self.sampler = backend, sampler
        self.batch_limit, self.queue_limit, self.max_steps = batch_limit, queue_limit, max_steps
        self.waiting: list[Job] = []  # in order
        self.running: list[Job] = []
        self.submitted = 0
        self.changed = threading.Condition()  # guards the above and the jobs' states
        self.one_round = threading.Lock()

    def submit(self, request: Request, on_step: Listener = None, on_end: Listener = None) -> Job:
        """Queue a request; ``on_step`` is called by the rounds' thread after each of its steps, ``on_end`` by that or
        a cancelling thread when it is done, cancelled or failed, and must not raise or wait.

        Raises ``UserError`` for a request that cannot be served, ``QueueFull`` where too many wait.
        """
        self.check(request)
        with self.changed:
            if len(self.waiting) >= self.queue_limit:
                raise QueueFull(f"{len(self.waiting)} requests wait already, which is the limit; try again later")
            job = Job(self, request, self.submitted, on_step, on_end)
            self.submitted += 1
            insort(self.waiting, job, key=lambda each: each.order)
            self.changed.notify_all()
        return job

    def check(self, request: Request) -> None:
        if not 1 <= request.steps <= self.max_steps:
            raise UserError(f"steps = {request.steps}: must be between 1 and {self.max_steps}")
        if not 0 <= request.seed <= LARGEST_SEED:
            raise UserError(f"seed = {request.seed}: must be between 0 and {LARGEST_SEED}")
        self.backend.check(request.prompt)

    def position(self, job: Job) -> int:
        with self.changed:
            return self.waiting.index(job) + 1 if job.state == "waiting" else 0

    def cancel(self, job: Job) -> None:
        with self.changed:
            if job.state == "waiting":
                self.waiting.remove(job)
                job.end("cancelled")
            job.cancel_asked = True

    def run(self, stop: threading.Event) -> None:
        """Make rounds until told to stop. Jobs that have not ended then stay, and the next run goes on with them."""
        while not stop.is_set():
            if not self.round():
                with self.changed:
                    self.changed.wait_for(lambda: bool(self.waiting), IDLE_S)

    def round(self) -> bool:
        """One denoising step of the running batch, after those who may have entered; False where there is none."""
        with self.one_round:
            self.drop_cancelled()
            self.admit()
            if not self.running:
                return False
            self.step()
            return True

    def drop_cancelled(self) -> None:
        for job in [each for each in self.running if each.cancel_asked]:
            self.leave(job, "cancelled")

    def admit(self) -> None:
        """Let the waiting enter, in order, while there is room."""
        while job := self.next_entrant():
            try:
                job.condition = self.backend.encode(job.request.prompt)
                job.trajectory = self.sampler.start(self.backend.noise(job.request.seed), job.request.steps)
            except Exception as error:
                self.leave(job, "failed", f"{self.backend.name}: the prompt could not be encoded: {error}")

    def next_entrant(self) -> Job | None:
        with self.changed:
            if not self.waiting or len(self.running) >= self.batch_limit:
                return None
            job = self.waiting.pop(0)
            job.enter()
            self.running.append(job)
            return job

    def step(self) -> None:
        """One step of all that run; whatever goes wrong ends the jobs it concerns, not the engine."""
        batch = list(self.running)
        trajectories = [job.trajectory for job in batch if job.trajectory is not None]
        try:
            samples = [each.sample for each in trajectories]
            times = [each.time for each in trajectories]
            predictions = self.backend.predict(samples, times, [job.condition for job in batch])
            moves = list(zip(batch, trajectories, predictions, strict=True))
        except Exception as error:
            for job in batch:
                self.leave(job, "failed", f"{self.backend.name}: a denoising step failed: {error}")
            return
        for job, trajectory, prediction in moves:
            self.move(job, trajectory, prediction)

    def move(self, job: Job, trajectory: Trajectory, prediction: Any) -> None:
        """Move one job along its prediction, decode it where that was its last step, and tell of it."""
        try:
            self.sampler.advance(trajectory, prediction)
            job.steps_done = trajectory.step
            if trajectory.finished:
                job.image = self.backend.decode(trajectory.sample)
            if job.on_step:
                job.on_step(job)
        except Exception as error:
            job.image = None
            self.leave(job, "failed", f"{self.backend.name}: step {trajectory.step} could not be finished: {error}")
        else:
            if trajectory.finished:
                self.leave(job, "done")

    def leave(self, job: Job, state: State, error: str = "") -> None:
        with self.changed:
            self.running.remove(job)
            job.end(state, error)
