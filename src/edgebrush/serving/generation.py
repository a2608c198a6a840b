"""A generation: an admitted image request with one engine job per image, from admission to its reply."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
from PIL.Image import fromarray

from edgebrush.api.errors import ApiError
from edgebrush.api.pictures import MEDIA_TYPES, encode, output_format, size_of
from edgebrush.api.schema import (
    CompletedImage,
    ErrorDetail,
    Image,
    ImageReply,
    ImageRequest,
    JobReply,
    JobStatus,
    PartialImage,
)
from edgebrush.api.streaming import PartialImages
from edgebrush.diffusion.engine import Job

KeepFile = Callable[[bytes, str], str]  # content and media type to the file's address


class Generation:
    """The engine jobs of one request.

    ``ignored`` names the request's fields without effect; ``keep_file`` makes the addresses of a reply with addresses;
    ``parent`` is the client's span.
    The engine's thread calls ``show_step``. Everything else runs in the event loop's thread.
    """

    def __init__(
        self,
        request: ImageRequest,
        steps: int,
        served_by: str,
        ignored: Sequence[str],
        keep_file: KeepFile,
        parent: Any = None,
    ):
        self.request, self.steps, self.served_by = request, steps, served_by
        self.ignored, self.keep_file, self.parent = list(ignored), keep_file, parent
        self.admitted_ns = time.time_ns()
        self.id = f"img-{secrets.token_hex(12)}"
        self.jobs: list[Job] = []
        self.energy_j = 0.0
        self.error: ApiError | None = None  # the reason of a cancellation
        self.loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.deadline_timer: asyncio.TimerHandle | None = None
        self.events: asyncio.Queue[PartialImage | None] = asyncio.Queue()  # None: the end
        self.partial_images = PartialImages(request)
        self.made_reply: asyncio.Future[ImageReply] | None = None

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

    def on_job_end(self) -> None:
        """End with the last job."""
        if self.jobs_ended:
            self.ended.set()
            self.events.put_nowait(None)

    def show_step(self, job: Job) -> None:
        """In the engine's thread, after a step: add the sample to the stream, where it is wanted."""
        trajectory = job.trajectory
        if trajectory is None or trajectory.finished or not self.partial_images.wants(job.steps_done, self.steps):
            return
        (image,) = job.engine.backend.decode([trajectory.sample])
        event = self.partial_images.event(fromarray(image), job.steps_done, self.steps)
        self.loop.call_soon_threadsafe(self.events.put_nowait, event)

    def _encode(self, image: np.ndarray) -> tuple[bytes, str]:
        """The file of an image in the requested format, and its size."""
        picture = fromarray(image)
        return encode(picture, self.request), size_of(picture)

    async def stream(self) -> AsyncIterator[PartialImage | CompletedImage]:
        """The partial images, then the image. Raises ``ApiError`` where the generation failed."""
        while event := await self.events.get():
            yield event
        reply = await self.reply()
        fields = reply.model_dump(exclude={"created", "data", "errors"})
        yield CompletedImage(b64_json=reply.data[0].b64_json or "", created_at=reply.created, **fields)

    async def reply(self) -> ImageReply:
        """The images that were made, and an error for each other one, after the end.

        Raises ``ApiError`` where no image was made, or where the request as a whole was cancelled.
        """
        missing = [job for job in self.jobs if job.image is None]
        if missing and (self.error or len(missing) == len(self.jobs)):
            raise self.error or generation_error(missing[0])
        if self.made_reply is None:  # once, because it may keep files
            self.made_reply = asyncio.ensure_future(self._make_reply())
        return await asyncio.shield(self.made_reply)

    async def _make_reply(self) -> ImageReply:
        made = [job.image for job in self.jobs if job.image is not None]
        files = await asyncio.to_thread(lambda: [self._encode(image) for image in made])
        return ImageReply(
            created=int(time.time()),
            data=[self._image(content) for content, _ in files],
            output_format=output_format(self.request),
            size=files[0][1],
            steps_used=self.steps,
            served_by=self.served_by,
            queue_s=max(job.queue_s for job in self.jobs),
            compute_s=max(job.compute_s for job in self.jobs),
            energy_j=self.energy_j,
            ignored=self.ignored,
            errors=[generation_error(job).detail for job in self.jobs if job.image is None],
        )

    def _image(self, content: bytes) -> Image:
        """An image as the request asks for it: inline, or as an address."""
        if self.request.response_format == "url":
            return Image(url=self.keep_file(content, MEDIA_TYPES[output_format(self.request)]))
        return Image(b64_json=base64.b64encode(content).decode())

    async def status(self) -> JobReply:
        """Progress, and the result or the error after the end."""
        result: ImageReply | None = None
        error: ErrorDetail | None = None
        status: JobStatus = "queued" if all(job.state == "waiting" for job in self.jobs) else "in_progress"
        if self.jobs_ended:
            try:
                result, status = await self.reply(), "completed"
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
