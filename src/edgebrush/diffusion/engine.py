"""Step-level (continuous) batching: requests with different step counts join and leave the batch between its steps.

One thread runs the rounds; any thread may submit and cancel. An image depends only on its request's prompt, steps and
seed, not on the other requests in the batch.
"""

from __future__ import annotations

import threading
import time
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgebrush.errors import UserError

from .backend import Backend, Prompt, Size
from .samplers import Sampler, Trajectory

IDLE_S = 0.1  # an idle engine checks this often whether to stop; a submission wakes it at once
MAX_SEED = 2**63 - 1

State = Literal["waiting", "running", "done", "cancelled", "failed"]


class QueueFull(Exception):
    """The engine has no room for another waiting request."""


@dataclass(frozen=True)
class Request:
    """An image to generate. Requests of service class 0 are served first."""

    prompt: Prompt
    steps: int
    seed: int
    service_class: int = 0
    size: Size | None = None  # None: the model's own


class Job:
    """A request inside the engine: its state, its progress and its result.

    ``image`` is set once the job is done, ``error`` once it has failed. ``queue_s`` is the time from submission to
    entering the batch, ``compute_s`` the time from there to the end.
    """

    def __init__(self, engine: Engine, request: Request, number: int, on_step: JobCallback, on_end: JobCallback):
        self.engine, self.request, self.number = engine, request, number
        self.on_step, self.on_end = on_step, on_end
        self.state: State = "waiting"
        self.steps_done = 0
        self.image: np.ndarray | None = None
        self.error = ""
        self.queue_s = self.compute_s = 0.0
        self.condition: Any = None  # the encoded prompt, while the job runs
        self.trajectory: Trajectory | None = None  # while the job runs
        self.cancel_requested = False
        self.since = time.perf_counter()  # when the current state began
        self.ended = threading.Event()

    @property
    def order(self) -> tuple[int, int]:
        """Key of the queue's order: service class, then arrival."""
        return self.request.service_class, self.number

    @property
    def position(self) -> int:
        """Position in the queue, 1 for the next job to enter the batch; 0 for a job that is not waiting."""
        return self.engine.position(self)

    def cancel(self) -> None:
        """Cancel the job: at once if it waits, before its next step if it runs. No effect on a job that has ended."""
        self.engine.cancel(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the job has ended; returns False if that takes longer than ``timeout`` seconds."""
        return self.ended.wait(timeout)

    def start(self) -> None:
        """Change the state from waiting to running."""
        now = time.perf_counter()
        self.state, self.queue_s, self.since = "running", now - self.since, now

    def finish(self, state: State, error: str = "") -> None:
        """Enter a final state, release the intermediate sample, and call ``on_end``."""
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


JobCallback = Callable[[Job], None] | None


class Engine:
    """Serves requests on one backend with one sampler.

    At most ``batch_limit`` requests run together and ``queue_limit`` more wait. ``max_steps`` limits the steps of a
    request.
    """

    def __init__(self, backend: Backend, sampler: Sampler, batch_limit: int, queue_limit: int, max_steps: int):
        self.backend, self.sampler = backend, sampler
        self.batch_limit, self.queue_limit, self.max_steps = batch_limit, queue_limit, max_steps
        self.waiting: list[Job] = []  # sorted by Job.order
        self.running: list[Job] = []
        self.submitted = 0
        self.changed = threading.Condition()  # guards the above and the jobs' states
        self.round_lock = threading.Lock()

    def submit(self, request: Request, on_step: JobCallback = None, on_end: JobCallback = None) -> Job:
        """Queue a request.

        ``on_step`` is called after each step, in the thread of the rounds. ``on_end`` is called once the job is done,
        cancelled or failed, in that thread or in the one that cancels; it must neither block nor raise.

        Raises ``UserError`` for an invalid request and ``QueueFull`` if the queue has no room.
        """
        self.check(request)
        with self.changed:
            if len(self.waiting) >= self.queue_limit:
                raise QueueFull(f"{len(self.waiting)} requests are waiting, which is the limit; try again later")
            job = Job(self, request, self.submitted, on_step, on_end)
            self.submitted += 1
            insort(self.waiting, job, key=lambda each: each.order)
            self.changed.notify_all()
        return job

    def check(self, request: Request) -> None:
        """Raise ``UserError`` for a request that cannot be served."""
        if not 1 <= request.steps <= self.max_steps:
            raise UserError(f"steps = {request.steps}: must be between 1 and {self.max_steps}")
        if not 0 <= request.seed <= MAX_SEED:
            raise UserError(f"seed = {request.seed}: must be between 0 and {MAX_SEED}")
        self.backend.check(request.prompt)
        self.backend.check_size(request.size)

    def position(self, job: Job) -> int:
        """Return ``Job.position``."""
        with self.changed:
            return self.waiting.index(job) + 1 if job.state == "waiting" else 0

    def cancel(self, job: Job) -> None:
        """Do ``Job.cancel``."""
        with self.changed:
            if job.state == "waiting":
                self.waiting.remove(job)
                job.finish("cancelled")
            job.cancel_requested = True

    def run(self, stop: threading.Event) -> None:
        """Run rounds until ``stop`` is set. Jobs that have not ended stay; another call resumes them."""
        while not stop.is_set():
            if not self.round():
                with self.changed:
                    self.changed.wait_for(lambda: bool(self.waiting), IDLE_S)

    def round(self) -> bool:
        """Run one denoising step of the whole batch; returns False if there is nothing to run.

        At the start of a round, cancelled jobs leave and waiting jobs fill the free places. One evaluation of the
        network then serves all rows, each at its own timestep (``backend.predict``), and the sampler advances each
        row by one step (diffusers' ``scheduler.step``). Jobs at their last step are decoded together and leave. The
        round ends when the device has done its work, so a job that arrives meanwhile waits for one round at most.
        """
        with self.round_lock:
            self.remove_cancelled()
            self.admit()
            if not self.running:
                return False
            self.step()
            self.backend.synchronize()
            return True

    def remove_cancelled(self) -> None:
        """Remove the cancelled jobs from the batch."""
        for job in [each for each in self.running if each.cancel_requested]:
            self.remove(job, "cancelled")

    def admit(self) -> None:
        """Move waiting jobs into the batch, in order, while it has room; encode their prompts."""
        while job := self.start_next():
            try:
                job.condition = self.backend.encode(job.request.prompt)
                noise = self.backend.noise(job.request.seed, job.request.size)
                job.trajectory = self.sampler.start(noise, job.request.steps)
            except Exception as error:
                self.remove(job, "failed", f"{self.backend.name}: the prompt could not be encoded: {error}")

    def start_next(self) -> Job | None:
        """Move the first waiting job into the batch; returns None if none waits or the batch is full."""
        with self.changed:
            if not self.waiting or len(self.running) >= self.batch_limit:
                return None
            job = self.waiting.pop(0)
            job.start()
            self.running.append(job)
            return job

    def step(self) -> None:
        """Advance all running jobs by one step. An error ends the jobs that it concerns, not the engine."""
        batch = list(self.running)
        trajectories = [job.trajectory for job in batch if job.trajectory is not None]
        try:
            samples = [each.sample for each in trajectories]
            times = [each.time for each in trajectories]
            predictions = self.backend.predict(samples, times, [job.condition for job in batch])
            rows = list(zip(batch, trajectories, predictions, strict=True))
            for job, trajectory, prediction in rows:
                self.sampler.advance(trajectory, prediction)
                job.steps_done = trajectory.step
        except Exception as error:
            for job in batch:
                self.remove(job, "failed", f"{self.backend.name}: a denoising step failed: {error}")
            return
        finished = [(job, trajectory.sample) for job, trajectory, _ in rows if trajectory.finished]
        if finished:
            self.decode(*zip(*finished, strict=True))
        for job, trajectory, _ in rows:
            if job.state == "running":
                self.show_step(job, trajectory.finished)

    def decode(self, jobs: Sequence[Job], samples: Sequence[Any]) -> None:
        """Decode the samples of jobs that have done their last step: together or, after an error, one by one."""
        try:
            for job, image in zip(jobs, self.backend.decode(samples), strict=True):
                job.image = image
        except Exception as error:
            if len(jobs) == 1:
                self.remove(jobs[0], "failed", f"{self.backend.name}: the image could not be decoded: {error}")
                return
            for job, sample in zip(jobs, samples, strict=True):
                self.decode([job], [sample])

    def show_step(self, job: Job, finished: bool) -> None:
        """Call ``on_step``, and let the job leave after its last step."""
        try:
            if job.on_step:
                job.on_step(job)
        except Exception as error:
            job.image = None
            self.remove(job, "failed", f"{self.backend.name}: step {job.steps_done} could not be finished: {error}")
        else:
            if finished:
                self.remove(job, "done")

    def remove(self, job: Job, state: State, error: str = "") -> None:
        """Remove a job from the batch and finish it in a final state."""
        with self.changed:
            self.running.remove(job)
            job.finish(state, error)
