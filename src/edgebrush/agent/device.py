"""The UE's own device: a step-level batching engine with a batch of one, in its own thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from edgebrush.clients.failures import PlaceError
from edgebrush.diffusion.backend import Backend
from edgebrush.diffusion.engine import Engine, Job, QueueFull, Request
from edgebrush.diffusion.samplers import make_sampler
from edgebrush.errors import UserError

from .observer import OwnQueue

MIN_BUSY_S = 1e-6  # remaining seconds of a job that takes longer than expected


class DeviceError(PlaceError):
    """The device did not generate the image."""


class Device:
    """Generates one image at a time, in (class, arrival) order; at most ``queue_limit`` wait.

    ``fixed_s`` and ``step_s`` are the seconds per image and per step, by the scenario.
    """

    def __init__(self, backend: Backend, max_steps: int, queue_limit: int, fixed_s: float, step_s: float, classes: int):
        # One place more than may wait, because the job that starts next also waits for a moment.
        engine = Engine(backend, make_sampler(None, backend), 1, queue_limit + 1, max_steps)
        self.engine, self.queue_limit, self.classes = engine, queue_limit, classes
        self.fixed_s, self.step_s = fixed_s, step_s
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=engine.run, args=(self.stopping,), name="device", daemon=True)
        self.thread.start()

    def queue(self) -> OwnQueue:
        """The running task and the waiting ones, as the observation needs them."""
        with self.engine.changed:
            running, waiting = list(self.engine.running), list(self.engine.waiting)
        if not running and waiting:  # the thread is about to start it
            running.append(waiting.pop(0))
        busy_s = 0.0
        for job in running:
            since = job.since if job.state == "running" else time.perf_counter()
            left_s = since + self.seconds(job.request.steps) - time.perf_counter()
            busy_s += max(left_s, MIN_BUSY_S)
        work_s = [0.0] * self.classes
        for job in waiting:
            work_s[job.request.service_class] += self.seconds(job.request.steps)
        return OwnQueue(busy_s, len(waiting), work_s)

    def seconds(self, steps: int) -> float:
        """Seconds of one image."""
        return self.fixed_s + steps * self.step_s

    def check(self, request: Request) -> None:
        """Raises ``DeviceError`` of kind "invalid" for a request that the model cannot serve."""
        try:
            self.engine.check(request)
        except UserError as error:
            raise DeviceError(f"own device: {error}", "invalid") from None

    def full_error(self) -> DeviceError:
        """The error of a queue that is full until the running task has ended."""
        queue = self.queue()
        reason = f"own device: {queue.waiting} tasks are waiting, which is the limit"
        return DeviceError(reason, "overload", queue.busy_s)

    async def generate(
        self, request: Request, queue_timeout_s: float | None, on_step: Callable[[Job], None] | None = None
    ) -> Job:
        """The finished job. The engine's thread calls ``on_step`` after each step.

        Raises ``DeviceError``, also where the job still waits after ``queue_timeout_s`` seconds.
        """
        self.check(request)
        queue = self.queue()
        if queue.busy_s > 0 and queue.waiting >= self.queue_limit:
            raise self.full_error()
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def on_end(_: Job) -> None:
            loop.call_soon_threadsafe(ended.set)

        try:
            job = self.engine.submit(request, on_step, on_end)
        except QueueFull:
            raise self.full_error() from None
        try:
            async with asyncio.timeout(queue_timeout_s):
                await ended.wait()
        except TimeoutError:
            if job.state == "waiting":
                job.cancel()
            await ended.wait()
        finally:
            job.cancel()  # where the caller was cancelled; no effect on a job that has ended
        if job.state != "done":
            raise DeviceError(f"own device: {job.error or job.state} after {job.queue_s + job.compute_s:.3g} s")
        return job

    def close(self) -> None:
        """Stop after the current step. Unfinished jobs are cancelled."""
        for job in [*self.engine.waiting, *self.engine.running]:
            job.cancel()
        self.stopping.set()
        self.thread.join()
        while self.engine.round():  # removes the cancelled jobs
            pass
