"""Replies of the agent's HTTP interface: results of tasks as images, events or errors of the images API."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Sequence

from edgebrush.api.errors import ApiError, overload_error
from edgebrush.api.pictures import MEDIA_TYPES, convert, inspect, output_format
from edgebrush.api.schema import CompletedImage, Image, ImageFields, ImageReply
from edgebrush.journal.journal import JournalError
from edgebrush.journal.records import TaskResult


async def reply_of(
    results: Sequence[TaskResult],
    request: ImageFields,
    ignored: Sequence[str],
    keep_file: Callable[[bytes, str], str],
) -> ImageReply:
    """The images that were made, their cost, and an error for each other one.

    ``ignored`` names the request's fields without effect; ``keep_file`` keeps a file (content, media type) and returns
    its address. Raises ``ApiError`` where no image was made.
    """
    made, files, errors = [], [], []
    for result in results:
        try:
            files.append(await file_of(result, request))
            made.append(result)
        except ApiError as error:
            errors.append(error)
    if not made:
        raise errors[0]
    format = output_format(request)
    return ImageReply(
        created=int(time.time()),
        data=[
            Image(url=keep_file(content, MEDIA_TYPES[format]))
            if request.response_format == "url"
            else Image(b64_json=base64.b64encode(content).decode())
            for content, _ in files
        ],
        output_format=format,
        size=files[0][1],
        steps_used=max(each.steps for each in made),
        served_by=", ".join(dict.fromkeys(each.place for each in made)),
        queue_s=max(each.queue_s for each in made),
        compute_s=max(each.compute_s for each in made),
        energy_j=sum(each.energy_ue_j + each.energy_bs_j for each in results),
        ignored=list(ignored),
        errors=[error.detail for error in errors],
    )


async def file_of(result: TaskResult, request: ImageFields) -> tuple[bytes, str]:
    """A task's image in the requested format, and its size. Raises ``ApiError`` where there is none."""
    if result.image is None:
        raise task_error(result)
    try:
        format, size = inspect(result.image)
        if format == output_format(request):
            return result.image, size
        return await asyncio.to_thread(convert, result.image, request), size
    except ValueError as error:
        raise no_image(f"task {result.task}: {result.place}: {error}") from None


def completed_event(reply: ImageReply) -> CompletedImage:
    """The last event of a stream, from the reply with its one image."""
    fields = reply.model_dump(exclude={"created", "data", "errors"})
    return CompletedImage(b64_json=reply.data[0].b64_json or "", created_at=reply.created, **fields)


def task_error(result: TaskResult) -> ApiError:
    """The HTTP error of a task without image."""
    message = f"task {result.task}: {result.error}"
    if result.kind == "invalid":
        return ApiError(422, message, param="prompt", code="invalid_value")
    if result.kind == "overload":
        return overload_error(message, "all_places_full", result.retry_after_s)
    if result.kind == "deadline":
        return ApiError(504, message, "server_error", code="deadline_exceeded")
    return no_image(message)


def no_image(message: str) -> ApiError:
    return ApiError(502, message, "server_error", code="no_image")


def no_journal(error: JournalError) -> ApiError:
    return ApiError(503, str(error), "server_error", code="no_journal")
