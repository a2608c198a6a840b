"""A request at a station, from its admission to its answer."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator

import numpy as np

from edgebrush.api.schema import (
    Completed,
    Image,
    ImageReply,
    ImageRequest,
    JobReply,
    JobStatus,
    PartialImage,
    Refusal,
)
from edgebrush.diffusion.engine import Job
from edgebrush.diffusion.images import png


class Order:
    """The jobs of a request. The engine's thread calls ``show``; all else happens in the event loop's."""

    def __init__(self, request: ImageRequest, steps: int, served_by: str):
        self.request, self.steps, self.served_by = request, steps, served_by
        self.id = f"img-{secrets.token_hex(12)}"
        self.jobs: list[Job] = []
        self.energy_j = 0.0
        self.refusal: Refusal | None = None  # why it was cancelled
        self.loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.deadline: asyncio.TimerHandle | None = None
        self.shown = 0
        self.events: asyncio.Queue[PartialImage | None] = asyncio.Queue()  # None: the end; bounded by the steps

    @property
    def over(self) -> bool:
        return all(job.ended.is_set() for job in self.jobs)

    @property
    def waits(self) -> bool:
        return any(job.state == "waiting" for job in self.jobs)

    def cancel(self, refusal: Refusal) -> None:
        """What waits leaves at once, what runs before its next step. Nothing happens to an order that has ended."""
        if not self.over:
            self.refusal = self.refusal or refusal
            for job in self.jobs:
                job.cancel()

    def note_end(self, job: Job) -> None:
        """A job has ended: with the last one, so has the order; without one, the others are of no use."""
        if self.over:
            self.ended.set()
            self.events.put_nowait(None)
        elif job.state == "failed":
            self.cancel(failure(job))

    def show(self, job: Job) -> None:
        """In the engine's thread, after a step: put the sample on the stream."""
        if job.trajectory is None or job.trajectory.finished or not self.shows(job.steps_done):
            return
        sample = job.engine.backend.decode(job.trajectory.sample)
        self.loop.call_soon_threadsafe(self.put, job.steps_done, sample)

    def shows(self, step: int) -> bool:
        wanted = self.request.partial_images
        return wanted is None or step * (wanted + 1) // self.steps > (step - 1) * (wanted + 1) // self.steps

    def put(self, step: int, sample: np.ndarray) -> None:
        self.shown += 1
        self.events.put_nowait(
            PartialImage(
                b64_json=encoded(sample),
                partial_image_index=self.shown - 1,
                created_at=int(time.time()),
                size=size_of(sample),
                step=step,
                steps=self.steps,
            )
        )

    async def stream(self) -> AsyncIterator[PartialImage | Completed]:
        """Its partial images and the image. Raises ``Refusal`` where there is none."""
        while event := await self.events.get():
            yield event
        reply = self.reply()
        yield Completed(
            b64_json=reply.data[0].b64_json,
            created_at=reply.created,
            size=size_of(self.jobs[0].image),
            **reply.model_dump(exclude={"created", "data"}),
        )

    def reply(self) -> ImageReply:
        """The images of an order that has ended. Raises ``Refusal`` where there are none."""
        images = [job.image for job in self.jobs if job.state == "done" and job.image is not None]
        if len(images) < len(self.jobs):
            raise self.refusal or failure(self.jobs[0])
        return ImageReply(
            created=int(time.time()),
            data=[Image(b64_json=encoded(image)) for image in images],
            steps_used=self.steps,
            served_by=self.served_by,
            queue_s=max(job.queue_s for job in self.jobs),
            compute_s=max(job.compute_s for job in self.jobs),
            energy_j=self.energy_j,
        )

    def report(self) -> JobReply:
        """How far it is."""
        result, error = None, None
        status: JobStatus = "queued" if all(job.state == "waiting" for job in self.jobs) else "in_progress"
        if self.over:
            try:
                result, status = self.reply(), "completed"
            except Refusal as refusal:
                error = refusal.problem
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


def failure(job: Job) -> Refusal:
    message = job.error or "the image could not be made"
    return Refusal(503, message, "server_error", code="generation_failed", retry_after_s=1)


def encoded(image: np.ndarray) -> str:
    """An image as a PNG file in base64."""
    return base64.b64encode(png(image)).decode()


def size_of(image: np.ndarray | None) -> str:
    """Width and height, as OpenAI writes them."""
    assert image is not None
    return f"{image.shape[1]}x{image.shape[0]}"
