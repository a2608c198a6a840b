"""The HTTP interface of an agent: OpenAI's images API, where the agent decides place, steps and class."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import SystemRandom
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from edgebrush.api.errors import ApiError, add_error_handlers, error_response
from edgebrush.api.middleware import BodyMiddleware, wait_for_disconnect
from edgebrush.api.schema import IMAGES_PATH, MAX_SEED, ErrorReply, Health, Image, ImageReply, ImageRequest
from edgebrush.errors import UserError

from .agent import CLIENT_LEFT, DEADLINE_PASSED, Agent
from .journal import Task, TaskResult

DECIDED_FIELDS = ("num_inference_steps", "service_class")
UNSUPPORTED_FIELDS = ("stream", "partial_images")
RANDOM_SEEDS = 2**31  # seeds of requests without one are below


class AgentImageRequest(ImageRequest):
    """A request to an agent: the images API without the fields that the agent decides."""

    request: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="kind of request in the scenario, which sets the weights of delay, energy and quality"
    )


def create_app(agent: Agent) -> FastAPI:
    """The agent's application, which also starts and stops the agent."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await agent.start()
        yield
        await agent.stop()

    app = FastAPI(title="edgebrush ue", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyMiddleware)
    add_error_handlers(app)
    add_journal_error_handler(app)

    @app.get("/healthz")
    async def healthz() -> Health:
        return Health()

    @app.get("/readyz")
    async def readyz() -> Health:
        return Health()

    @app.post(IMAGES_PATH, responses={502: {"model": ErrorReply}, 504: {"model": ErrorReply}})
    async def generate(
        body: AgentImageRequest,
        request: Request,
        idempotency_key: Annotated[str | None, Header(pattern=r"^[A-Za-z0-9_-]{1,80}$")] = None,
    ) -> ImageReply:
        """Generate images at the places that the policy chooses.

        A request repeated with the same `Idempotency-Key` gets the images of the first one, also after a restart of the
        agent. Without a key, a client that disconnects cancels its tasks.
        """
        tasks = tasks_of(body, agent, idempotency_key or uuid.uuid4().hex)
        return reply_of(await run_tasks(agent, tasks, request, cancel_on_disconnect=idempotency_key is None))

    return app


async def run_tasks(agent: Agent, tasks: list[Task], request: Request, cancel_on_disconnect: bool) -> list[TaskResult]:
    """Run tasks until all have ended. Raises ``ApiError`` where the client disconnects first."""
    results: asyncio.Future[list[TaskResult]] = asyncio.gather(*(agent.generate(task) for task in tasks))
    disconnect: asyncio.Future[None] = asyncio.ensure_future(wait_for_disconnect(request))
    waits: set[asyncio.Future[Any]] = {results, disconnect}
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    disconnect.cancel()
    if results.done():
        return results.result()
    if cancel_on_disconnect:
        for task in tasks:
            agent.cancel(task.id)
    results.cancel()
    raise ApiError(499, CLIENT_LEFT)  # nobody reads it


def add_journal_error_handler(app: FastAPI) -> None:
    """Answer 503 where the journal cannot be written."""

    @app.exception_handler(OSError)
    @app.exception_handler(UserError)
    async def journal_error(_: Request, error: OSError | UserError) -> JSONResponse:
        message = f"the journal cannot be used: {error}"
        return error_response(ApiError(503, message, "server_error", code="no_journal"))


def tasks_of(body: AgentImageRequest, agent: Agent, key: str) -> list[Task]:
    """One task per image. Raises ``ApiError`` for fields or values that the agent does not accept."""
    given = body.model_dump(exclude_none=True)
    for name in (*DECIDED_FIELDS, *UNSUPPORTED_FIELDS):
        if name in given and given[name] is not False:
            reason = "the agent decides it" if name in DECIDED_FIELDS else "the agent sends one complete reply"
            raise ApiError(422, f"{name}: {reason}; leave it out", param=name, code="unsupported_parameter")
    kinds = agent.observer.scenario.requests
    kind = body.request or max(kinds, key=lambda each: each.share).name
    if kind not in [each.name for each in kinds]:
        known = ", ".join(each.name for each in kinds)
        raise ApiError(422, f"request = {kind!r}: the scenario has {known}", param="request", code="invalid_value")
    seed = SystemRandom().randrange(RANDOM_SEEDS) if body.seed is None else body.seed
    return [
        Task(
            f"{key}-{n}",
            body.prompt,
            kind,
            (seed + n) % (MAX_SEED + 1),  # as a station does
            body.negative_prompt or "",
            body.guidance_scale or 1.0,
            body.deadline_s,
        )
        for n in range(body.n or 1)
    ]


def reply_of(results: list[TaskResult]) -> ImageReply:
    """The images and their cost. Raises ``ApiError`` where a task ended with an error."""
    for each in results:
        if each.image is None:
            late = each.error.startswith(DEADLINE_PASSED)
            code = "deadline_passed" if late else "no_image"
            raise ApiError(504 if late else 502, f"task {each.task}: {each.error}", "server_error", code=code)
    return ImageReply(
        created=int(time.time()),
        data=[Image(b64_json=base64.b64encode(each.image or b"").decode()) for each in results],
        steps_used=max(each.steps for each in results),
        served_by=", ".join(dict.fromkeys(each.place for each in results)),
        queue_s=max(each.queue_s for each in results),
        compute_s=max(each.compute_s for each in results),
        energy_j=sum(each.energy_ue_j + each.energy_bs_j for each in results),
    )
