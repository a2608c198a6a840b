"""A generation: an admitted image request with one engine job per image, from admission to its reply."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator

import numpy as np

from edgebrush.api.errors import ApiError
from edgebrush.api.schema import CompletedImage, Image, ImageReply, ImageRequest, JobReply, JobStatus, PartialImage
from edgebrush.diffusion.engine import Job
from edgebrush.diffusion.images import png


class Generation:
    """The engine jobs of one request.

    The engine's thread calls ``show_step``. Everything else runs in the event loop's thread.
    """

    def __init__(self, request: ImageRequest, steps: int, served_by: str):
        self.request, self.steps, self.served_by = request, steps, served_by
        self.id = f"img-{secrets.token_hex(12)}"
        self.jobs: list[Job] = []
        self.energy_j = 0.0
        self.error: ApiError | None = None  # the reason of a cancellation
        self.loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.deadline_timer: asyncio.TimerHandle | None = None
        self.events: asyncio.Queue[PartialImage | None] = asyncio.Queue()  # None: the end; one entry per step at most
        self.shown = 0  # partial images so far

    @property
    def jobs_ended(self) -> bool:
        return all(job.ended.is_set() for job in self.jobs)

    @property
    def waiting(self) -> bool:
        """Whether an image still waits for a place in the batch."""
        return any(job.state == "waiting" for job in self.jobs)

    def cancel(self, error: ApiError) -> None:
        """Remove waiting jobs at once and running ones before their next step. No effect after the end."""
        if not self.jobs_ended:
            self.error = self.error or error
            for job in self.jobs:
                job.cancel()

    def on_job_end(self, job: Job) -> None:
        """End with the last job. If one job fails, cancel the others: the reply needs all images."""
        if self.jobs_ended:
            self.ended.set()
            self.events.put_nowait(None)
        elif job.state == "failed":
            self.cancel(generation_error(job))

    def show_step(self, job: Job) -> None:
        """In the engine's thread, after a step: add the sample to the stream."""
        if job.trajectory is None or job.trajectory.finished or not self._is_shown(job.steps_done):
            return
        sample = job.engine.backend.decode(job.trajectory.sample)
        self.loop.call_soon_threadsafe(self._add_partial_image, job.steps_done, sample)

    def _is_shown(self, step: int) -> bool:
        """Whether the sample after ``step`` is streamed: every step, or ``partial_images`` evenly spaced ones."""
        wanted = self.request.partial_images
        return wanted is None or step * (wanted + 1) // self.steps > (step - 1) * (wanted + 1) // self.steps

    def _add_partial_image(self, step: int, sample: np.ndarray) -> None:
        self.shown += 1
        self.events.put_nowait(
            PartialImage(
                b64_json=base64_png(sample),
                partial_image_index=self.shown - 1,
                created_at=int(time.time()),
                size=image_size(sample),
                step=step,
                steps=self.steps,
            )
        )

    async def stream(self) -> AsyncIterator[PartialImage | CompletedImage]:
        """The partial images, then the image. Raises ``ApiError`` where the generation failed."""
        while event := await self.events.get():
            yield event
        reply = self.reply()
        image = self.jobs[0].image
        assert image is not None
        yield CompletedImage(
            b64_json=reply.data[0].b64_json,
            created_at=reply.created,
            size=image_size(image),
            **reply.model_dump(exclude={"created", "data"}),
        )

    def reply(self) -> ImageReply:
        """The images, after the end. Raises ``ApiError`` where the generation failed."""
        images = [job.image for job in self.jobs if job.state == "done" and job.image is not None]
        if len(images) < len(self.jobs):
            raise self.error or generation_error(self.jobs[0])
        return ImageReply(
            created=int(time.time()),
            data=[Image(b64_json=base64_png(image)) for image in images],
            steps_used=self.steps,
            served_by=self.served_by,
            queue_s=max(job.queue_s for job in self.jobs),
            compute_s=max(job.compute_s for job in self.jobs),
            energy_j=self.energy_j,
        )

    def status(self) -> JobReply:
        """Progress, and the result or the error after the end."""
        result, error = None, None
        status: JobStatus = "queued" if all(job.state == "waiting" for job in self.jobs) else "in_progress"
        if self.jobs_ended:
            try:
                result, status = self.reply(), "completed"
            except ApiError as failure:
                error = failure.detail
                status = "cancelled" if error.code == "cancelled" else "failed"
        return JobReply(
            id=self.id,
            status=status,
            queue_position=max(job.position for job in self.jobs),
            steps_done=sum(job.steps_done for job in self.jobs),
            steps=self.steps * len(self.jobs),
            result=result,
            error=error,
        )


def generation_error(job: Job) -> ApiError:
    """The error of a generation whose job failed."""
    message = job.error or "the image could not be generated"
    return ApiError(503, message, "server_error", code="generation_failed", retry_after_s=1)


def base64_png(image: np.ndarray) -> str:
    return base64.b64encode(png(image)).decode()


def image_size(image: np.ndarray) -> str:
    """Width and height in OpenAI's notation, e.g. ``28x28``."""
    return f"{image.shape[1]}x{image.shape[0]}"
