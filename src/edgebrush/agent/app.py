"""The agent's own port: the images API that OpenAI's clients speak, of which the agent decides the rest."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import SystemRandom
from typing import Annotated

from fastapi import FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field

from edgebrush.api.middleware import BodyGate, answer, until_gone
from edgebrush.api.schema import (
    IMAGES_PATH,
    Health,
    Image,
    ImageReply,
    ImageRequest,
    ProblemReply,
    Refusal,
    refusal_of,
)
from edgebrush.errors import UserError

from .agent import CLIENT_LEFT, DEADLINE_PASSED, Agent
from .journal import Ended, Task

DECIDED_HERE = ("num_inference_steps", "service_class")
NOT_HERE = ("stream", "partial_images")
MAX_SEED = 2**31


class WishedImage(ImageRequest):
    """What a client asks of an agent: the images API less what the agent decides."""

    request: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="the scenario's kind of request, which says how anxious the requester is"
    )


def gateway(agent: Agent) -> FastAPI:
    """The application; it starts and stops the agent."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await agent.start()
        yield
        await agent.stop()

    app = FastAPI(title="edgebrush ue", lifespan=life, docs_url=None, redoc_url=None)
    app.add_middleware(BodyGate)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(refusal_of(list(error.errors())))

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        return answer(refusal)

    @app.exception_handler(OSError)
    @app.exception_handler(UserError)
    async def unwritable(request: Request, error: OSError | UserError) -> JSONResponse:
        return answer(Refusal(503, f"the journal cannot be used: {error}", "server_error", code="no_journal"))

    @app.get("/healthz")
    async def healthz() -> Health:
        return Health()

    @app.get("/readyz")
    async def readyz() -> Health:
        return Health()

    @app.post(IMAGES_PATH, responses={502: {"model": ProblemReply}, 504: {"model": ProblemReply}})
    async def generate(
        wanted: WishedImage,
        request: Request,
        idempotency_key: Annotated[str | None, Header(pattern=r"^[A-Za-z0-9_-]{1,80}$")] = None,
    ) -> ImageReply:
        """An image, made wherever the policy says.

        With an ``Idempotency-Key`` a request that is sent again, to this agent or to the next one on its journal, gets
        the images of the first time; without, a client that leaves ends its tasks.
        """
        tasks = tasks_of(wanted, agent, idempotency_key or uuid.uuid4().hex)
        made: asyncio.Future = asyncio.gather(*(agent.make(task) for task in tasks))
        left: asyncio.Future = asyncio.create_task(until_gone(request))
        await asyncio.wait({made, left}, return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        if not made.done():
            if idempotency_key is None:
                for task in tasks:
                    agent.abandon(task.id)
            made.cancel()
            raise Refusal(499, CLIENT_LEFT)  # read by nobody
        return reply_of(made.result())

    return app


def tasks_of(wanted: WishedImage, agent: Agent, key: str) -> list[Task]:
    """One task an image, as the wish says. Raises ``Refusal`` for what the agent does not take."""
    given = wanted.model_dump(exclude_none=True)
    for name in (*DECIDED_HERE, *NOT_HERE):
        if name in given and given[name] is not False:
            why = "the agent decides it" if name in DECIDED_HERE else "the agent answers once, whole"
            raise Refusal(422, f"{name}: {why}; leave it out", param=name, code="unsupported_parameter")
    kinds = agent.observer.scenario.requests
    kind = wanted.request or max(kinds, key=lambda each: each.share).name
    if kind not in [each.name for each in kinds]:
        known = ", ".join(each.name for each in kinds)
        raise Refusal(422, f"request = {kind!r}: the scenario has {known}", param="request", code="invalid_value")
    seed = SystemRandom().randrange(MAX_SEED) if wanted.seed is None else wanted.seed
    return [
        Task(
            f"{key}-{n}",
            wanted.prompt,
            kind,
            seed + n,
            wanted.negative_prompt or "",
            wanted.guidance_scale or 1.0,
            wanted.deadline_s,
        )
        for n in range(wanted.n or 1)
    ]


def reply_of(ended: list[Ended]) -> ImageReply:
    """The images and what they came to. Raises ``Refusal`` where one of them ended in an error."""
    for each in ended:
        if each.image is None:
            late = each.error.startswith(DEADLINE_PASSED)
            code = "deadline_passed" if late else "no_image"
            raise Refusal(504 if late else 502, f"task {each.task}: {each.error}", "server_error", code=code)
    return ImageReply(
        created=int(time.time()),
        data=[Image(b64_json=base64.b64encode(each.image or b"").decode()) for each in ended],
        steps_used=max(each.steps for each in ended),
        served_by=", ".join(dict.fromkeys(each.place for each in ended)),
        queue_s=max(each.queue_s for each in ended),
        compute_s=max(each.compute_s for each in ended),
        energy_j=sum(each.energy_ue_j + each.energy_bs_j for each in ended),
    )
