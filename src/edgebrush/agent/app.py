"""The HTTP interface of an agent: OpenAI's images API, where the agent decides place, steps and class."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import chain, count
from random import SystemRandom
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from edgebrush.api.application import new_app
from edgebrush.api.disconnects import ClientLeft, unless_disconnected
from edgebrush.api.errors import ApiError, add_error_handlers, error_response, error_responses
from edgebrush.api.files import FileStore, add_file_route
from edgebrush.api.middleware import BodyMiddleware
from edgebrush.api.models import add_model_routes
from edgebrush.api.rules import check_request, ignored_fields, image_seeds
from edgebrush.api.schema import IMAGES_PATH, Health, ImageFields, ImageReply, Name
from edgebrush.api.streaming import open_stream
from edgebrush.journal.journal import JournalError
from edgebrush.journal.records import Task, TaskResult
from edgebrush.scenario.expand import expand_ues

from .agent import Agent, RepeatMismatch
from .metrics import add_metrics_route
from .page import add_status_page
from .replies import no_journal, reply_of
from .streams import stream_task

MODEL = "edgebrush"  # the agent's model: whichever its places have
DECIDED = "not supported, because the agent decides it"
RANDOM_SEEDS = 2**31  # seeds of requests without one are below


class AgentImageRequest(ImageFields):
    """A request to an agent, which decides the steps and the service class."""

    request: Name | None = Field(
        default=None, description="kind of request in the scenario, which sets the weights of delay, energy and quality"
    )
    num_inference_steps: None = Field(default=None, description=DECIDED)
    service_class: None = Field(default=None, description=DECIDED)


def create_app(agent: Agent) -> FastAPI:
    """The agent's application, which also starts and stops the agent."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await agent.start()
        yield
        await agent.stop()

    app = new_app("edgebrush ue", lifespan)
    files, model, sizes = FileStore(), MODEL, image_sizes(agent)
    app.add_middleware(BodyMiddleware)
    add_error_handlers(app)
    add_journal_error_handlers(app)
    add_model_routes(app, model, f"ue {agent.observer.ue + 1} of {agent.observer.scenario.name}")
    add_file_route(app, files)
    add_status_page(app, agent)
    add_metrics_route(app, agent)

    @app.get("/healthz")
    async def healthz() -> Health:
        return Health()

    @app.get("/readyz", responses=error_responses(503))
    async def readyz() -> Health:
        """Ready while the journal can be written."""
        agent.journal.check_writable()
        return Health()

    stream = {"description": "The images; for a stream, server-sent events.", "content": {"text/event-stream": {}}}

    @app.post(
        IMAGES_PATH,
        response_model=ImageReply,
        response_model_exclude_none=True,  # clients look whether there is a url
        responses={200: stream, **error_responses(400, 404, 408, 413, 422, 429, 502, 503, 504)},
    )
    async def generate(
        body: AgentImageRequest,
        request: Request,
        idempotency_key: Annotated[str | None, Header(pattern=r"^[A-Za-z0-9_-]{1,80}$")] = None,
    ) -> Any:
        """Generate images at the places that the policy chooses: in one reply, or as a stream.

        A request repeated with the same `Idempotency-Key` gets the images of the first one, also after a restart of the
        agent; another request with that key is refused. Without a key, a client that disconnects cancels its tasks.
        """
        check_request(body, model, sizes)
        ignored = ignored_fields(body, model, sizes if len(sizes) == 1 else [])
        tasks = tasks_of(body, agent, idempotency_key or uuid.uuid4().hex)

        def cancel() -> None:
            if idempotency_key is None:
                for task in tasks:
                    agent.cancel(task.id)

        async def make_reply(results: list[TaskResult]) -> ImageReply:
            return await reply_of(results, body, ignored, files.keeper(str(request.base_url)))

        if body.stream:
            return await open_stream(stream_task(agent, tasks[0], body, make_reply), request, cancel)
        return await make_reply(await run_tasks(agent, tasks, request, cancel))

    return app


async def run_tasks(
    agent: Agent, tasks: list[Task], request: Request, on_disconnect: Callable[[], None]
) -> list[TaskResult]:
    """Run tasks until all have ended. Raises ``ClientLeft`` where the client disconnects first."""
    for task in tasks:  # all of them, before the first one starts
        agent.check_repeat(task)
    try:
        return await unless_disconnected(asyncio.gather(*(agent.generate(task) for task in tasks)), request)
    except ClientLeft:
        on_disconnect()
        raise


def add_journal_error_handlers(app: FastAPI) -> None:
    """Answer 503 where the journal cannot be used, and 422 where an `Idempotency-Key` comes with another request."""

    @app.exception_handler(JournalError)
    async def journal_error(_: Request, error: JournalError) -> JSONResponse:
        return error_response(no_journal(error))

    @app.exception_handler(RepeatMismatch)
    async def mismatch(_: Request, error: RepeatMismatch) -> JSONResponse:
        message = "Idempotency-Key: an earlier request with other fields had this key; use a new key for a new request"
        return error_response(ApiError(422, message, param="Idempotency-Key", code="idempotency_mismatch"))


def tasks_of(body: AgentImageRequest, agent: Agent, key: str) -> list[Task]:
    """One task per image. Raises ``ApiError`` for a kind of request that the scenario does not have."""
    kinds = agent.observer.scenario.requests
    kind = body.request or max(kinds, key=lambda each: each.share).name
    if kind not in [each.name for each in kinds]:
        known = ", ".join(each.name for each in kinds)
        raise ApiError(400, f"request = {kind!r}: the scenario has {known}", param="request", code="invalid_value")
    fingerprint = hashlib.sha256(body.model_dump_json(exclude_defaults=True).encode()).hexdigest()
    first_seed = SystemRandom().randrange(RANDOM_SEEDS) if body.seed is None else body.seed
    return [
        Task(
            task_id(agent, key, n),
            body.prompt,
            kind,
            seed,
            body.negative_prompt or "",
            body.guidance_scale,
            body.deadline_s,
            fingerprint=fingerprint,
        )
        for n, seed in enumerate(image_seeds(first_seed, body.n or 1))
    ]


def task_id(agent: Agent, key: str, number: int) -> str:
    """The id of a request's image. Where a task met overload, a repetition of its request is a new task."""
    attempts = (f"{key}-{number}{suffix}" for suffix in chain([""], (f".{attempt}" for attempt in count(2))))
    return next(id for id in attempts if not (known := agent.journal.result(id)) or known.kind != "overload")


def image_sizes(agent: Agent) -> list[str]:
    """The sizes of the images that the agent's places make, by their profiles."""
    scenario, observer = agent.observer.scenario, agent.observer
    _, own = expand_ues(scenario)[observer.ue]
    sides = {own.resolution_px, *(station.server.size_px for station in agent.stations)}
    return [f"{side}x{side}" for side in sorted(sides)]
