"""A task as a stream of events: partial images where the own device makes it, then the image."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from PIL.Image import fromarray

from edgebrush.api.schema import ImageFields, ImageReply
from edgebrush.api.streaming import Event, PartialImages
from edgebrush.diffusion.engine import Job
from edgebrush.journal.journal import JournalError
from edgebrush.journal.records import Task, TaskResult

from .agent import Agent
from .replies import completed_event, no_journal


async def stream_task(
    agent: Agent, task: Task, request: ImageFields, make_reply: Callable[[list[TaskResult]], Awaitable[ImageReply]]
) -> AsyncIterator[Event]:
    """The events of a task. A BS sends its image whole, so partial images come from the own device alone.

    Raises ``ApiError`` where the task ends with an error. Closing the stream does not end the task.
    """
    events: asyncio.Queue[Event | None] = asyncio.Queue()  # None: the end
    if request.partial_images:
        agent.viewers[task.id] = partial_image_viewer(request, events.put_nowait)
    ended = asyncio.ensure_future(agent.generate(task))
    ended.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while event := await events.get():
            yield event
        yield completed_event(await make_reply([await ended]))
    except JournalError as error:
        raise no_journal(error) from None
    finally:
        agent.viewers.pop(task.id, None)
        ended.cancel()


def partial_image_viewer(request: ImageFields, add: Callable[[Event], None]) -> Callable[[Job], None]:
    """A function for the engine's thread that adds the wanted samples of a job to a stream."""
    partial_images, loop = PartialImages(request), asyncio.get_running_loop()

    def view(job: Job) -> None:
        trajectory, steps = job.trajectory, job.request.steps
        if trajectory is None or trajectory.finished or not partial_images.wants(job.steps_done, steps):
            return
        (image,) = job.engine.backend.decode([trajectory.sample])
        loop.call_soon_threadsafe(add, partial_images.event(fromarray(image), job.steps_done, steps))

    return view
