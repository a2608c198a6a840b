"""A base station: the engine of its model in a thread, the orders that it holds, and its HTTP interface."""

from __future__ import annotations

import asyncio
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from fastapi.sse import EventSourceResponse, format_sse_event
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edgebrush.api.middleware import BodyGate, TokenGate, answer, until_gone
from edgebrush.api.schema import (
    IMAGES_PATH,
    LOAD_PATH,
    MAX_SEED,
    Health,
    ImageReply,
    ImageRequest,
    JobReply,
    Load,
    Model,
    ModelList,
    ProblemReply,
    Refusal,
    refusal_of,
)
from edgebrush.diffusion import engine as engines
from edgebrush.diffusion.backend import Backend, Prompt
from edgebrush.diffusion.engine import Engine, Job, QueueFull
from edgebrush.diffusion.pacing import PacedBackend
from edgebrush.diffusion.samplers import Sampler
from edgebrush.errors import UserError
from edgebrush.profiles.schema import Profile
from edgebrush.scenario.schema import MAX_CLASSES

from .jobs import Order, size_of
from .metrics import CountedAnswers, Metrics

USUAL_STEPS = 15  # of a request that does not say
KEPT_JOBS = 64  # asynchronous jobs that have ended and may still be asked for
LONGEST_RETRY_S = 60  # OpenAI's clients do not heed a longer one
STOP_RETRY_S = 5  # what a stopping station tells those it hands back
STOPPING = partial(
    Refusal, 503, "this station is stopping; try another", "server_error", code="stopping", retry_after_s=STOP_RETRY_S
)
CANCELLED = partial(Refusal, 409, "the job was cancelled", code="cancelled")
EXPIRED = partial(
    Refusal, 504, "the deadline passed while the request waited", "server_error", code="deadline_exceeded"
)


@dataclass(frozen=True)
class Limits:
    """What a station takes: tasks at once, tasks that wait, requests at once, and steps of a task."""

    batch: int = 4
    queue: int = 32
    connections: int = 64
    steps: int = 100


class Station:
    """A BS: orders in, images out, from one engine in a thread of its own.

    With a ``speed`` it is as slow as the profile's hardware times that (a scenario's ``Bs.speed``). All methods are
    called in the event loop's thread but ``on_step``, ``on_round`` and ``tell_end``, which the engine's calls.
    """

    def __init__(
        self,
        name: str,
        backend: Backend,
        sampler: Sampler,
        profile: Profile,
        limits: Limits | None = None,
        speed: float | None = None,
    ):
        self.name, self.profile, self.limits = name, profile, limits or Limits()
        self.size = size_of(backend.decode(backend.noise(0)))
        self.backend = PacedBackend(backend, profile.compute, speed, self.on_round)
        self.engine = Engine(self.backend, sampler, self.limits.batch, self.limits.queue, self.limits.steps)
        self.metrics = Metrics()
        self.started_at = time.time()
        self.requests = 0  # being received, worked on or answered
        self.round_s = 0.0
        self.orders: set[Order] = set()  # that have not ended
        self.jobs: OrderedDict[str, Order] = OrderedDict()  # asynchronous ones, the oldest first
        self.stopping = False
        self.halt = threading.Event()
        self.thread = threading.Thread(target=self.engine.run, args=(self.halt,), name="engine", daemon=True)
        self.metrics.running.set_function(lambda: len(self.engine.running))
        self.metrics.waiting.set_function(lambda: len(self.engine.waiting))
        self.metrics.connections.set_function(lambda: self.connections)

    # -- orders

    def place(self, request: ImageRequest) -> Order:
        """Admit a request whole, or not at all. Raises ``Refusal``."""
        if self.stopping:
            raise STOPPING()
        order = Order(request, request.num_inference_steps or min(USUAL_STEPS, self.limits.steps), self.name)
        self.check(request, order.steps)
        first_seed = secrets.randbelow(MAX_SEED) if request.seed is None else request.seed
        prompt = self.prompt_of(request)
        on_step = partial(self.on_step, order)
        on_end = partial(self.tell_end, order)
        with self.engine.changed:  # no round begins with a part of the images
            try:
                for number in range(request.n or 1):
                    seed = (first_seed + number) % (MAX_SEED + 1)
                    task = engines.Request(prompt, order.steps, seed, request.service_class or 0)
                    order.jobs.append(self.engine.submit(task, on_step, on_end))
            except QueueFull as full:
                refusal = self.busy(str(full), "queue_full")
                order.cancel(refusal)
                raise refusal from None
        self.orders.add(order)
        if request.deadline_s is not None:
            order.deadline = order.loop.call_later(request.deadline_s, self.expire, order)
        return order

    def check(self, request: ImageRequest, steps: int) -> None:
        """Refuse what this station's model cannot do."""
        if request.model not in (None, self.backend.name):
            message = f"model = {request.model!r}: {self.name} serves {self.backend.name}"
            raise Refusal(404, message, param="model", code="model_not_found")
        if steps > self.limits.steps:
            message = f"num_inference_steps = {steps}: {self.name} makes at most {self.limits.steps}"
            raise Refusal(422, message, param="num_inference_steps", code="invalid_value")
        if request.size not in (None, "auto", self.size):
            message = f"size = {request.size!r}: {self.backend.name} makes {self.size}"
            raise Refusal(422, message, param="size", code="invalid_value")
        if request.stream and (request.n or 1) > 1:
            raise Refusal(422, f"n = {request.n}: a stream carries one image", param="n", code="invalid_value")
        try:
            self.backend.check(self.prompt_of(request))
        except UserError as error:
            raise Refusal(422, str(error), param="prompt", code="invalid_value") from None

    def prompt_of(self, request: ImageRequest) -> Prompt:
        return Prompt(request.prompt, request.negative_prompt or "", request.guidance_scale or 1.0)

    def expire(self, order: Order) -> None:
        """The order's deadline: whoever waits is dropped, as in the simulator; what runs goes on."""
        if order.waits:
            order.cancel(EXPIRED())

    def keep(self, order: Order) -> None:
        """Remember an asynchronous job, and forget the oldest that have ended."""
        self.jobs[order.id] = order
        ended = [each.id for each in self.jobs.values() if each.over]
        for each in ended[: max(0, len(ended) - KEPT_JOBS)]:
            del self.jobs[each]

    def job(self, id: str) -> Order:
        if id not in self.jobs:
            raise Refusal(404, f"job {id!r} is not known here (any more)", param="id", code="job_not_found")
        return self.jobs[id]

    # -- what the engine tells

    def on_round(self, seconds: float) -> None:
        self.round_s = seconds
        self.metrics.round.observe(seconds)

    def on_step(self, order: Order, job: Job) -> None:
        """Charge the job its share of the round and, at the end, its fixed part, as ``sim/station.py`` does."""
        energy = self.profile.energy
        joules = energy.round_intercept_j / self.backend.batch + energy.round_slope_j
        if job.steps_done == order.steps:
            joules += energy.fixed_j
        if job.steps_done == 1:
            self.metrics.queue_wait.observe(job.queue_s)
        order.energy_j += joules
        self.metrics.energy.inc(joules)
        self.metrics.steps.inc()
        if order.request.stream:
            order.show(job)

    def tell_end(self, order: Order, job: Job) -> None:
        order.loop.call_soon_threadsafe(self.on_end, order, job)

    def on_end(self, order: Order, job: Job) -> None:
        order.note_end(job)
        if order.ended.is_set():
            self.orders.discard(order)
            if order.deadline:
                order.deadline.cancel()

    # -- load

    @property
    def connections(self) -> int:
        """Requests under way, and jobs whose clients come back for them."""
        return self.requests + sum(1 for job in self.jobs.values() if not job.over)

    def load(self) -> Load:
        """What a UE may know of this station."""
        with self.engine.changed:
            running = [job.request.steps - job.steps_done for job in self.engine.running]
            waiting = [job.request for job in self.engine.waiting]
        return Load(
            name=self.name,
            time=time.time(),
            running=len(running),
            steps_left=sum(running),
            waiting=[sum(1 for each in waiting if each.service_class == p) for p in range(MAX_CLASSES)],
            waiting_steps=[sum(each.steps for each in waiting if each.service_class == p) for p in range(MAX_CLASSES)],
            connections=self.connections,
            round_s=self.round_s,
            batch_limit=self.limits.batch,
            queue_limit=self.limits.queue,
            connection_limit=self.limits.connections,
        )

    def busy(self, message: str, code: str) -> Refusal:
        """Come again when what is here now will have been worked off, in whole seconds."""
        load = self.load()
        rounds = (load.steps_left + sum(load.waiting_steps)) / load.batch_limit
        retry_after_s = max(1, min(LONGEST_RETRY_S, math.ceil(rounds * load.round_s)))
        return Refusal(429, f"{self.name}: {message}", "rate_limit_error", code=code, retry_after_s=retry_after_s)

    # -- life

    def start(self) -> None:
        self.thread.start()

    def stop(self, grace_s: float) -> None:
        """Take no more, hand back what waits, and after ``grace_s`` what still runs."""
        self.stopping = True
        for order in [each for each in self.orders if each.waits]:
            order.cancel(STOPPING())
        asyncio.get_running_loop().call_later(grace_s, self.hand_back)

    def hand_back(self) -> None:
        for order in list(self.orders):
            order.cancel(STOPPING())

    async def close(self) -> None:
        """End the engine's thread, after the round it is in."""
        self.halt.set()
        await asyncio.to_thread(self.thread.join)

    @property
    def alive(self) -> bool:
        return self.thread.is_alive()


class RequestGate:
    """Counts the image requests under way, and refuses those beyond the limit."""

    def __init__(self, app: ASGIApp, station: Station):
        self.app, self.station = app, station

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != IMAGES_PATH:
            await self.app(scope, receive, send)
            return
        station = self.station
        if station.connections >= station.limits.connections:
            message = f"{station.connections} requests are under way already, which is the limit; try again later"
            await answer(station.busy(message, "too_many_requests"))(scope, receive, send)
            return
        station.requests += 1
        try:
            await self.app(scope, receive, send)
        finally:
            station.requests -= 1


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that are problems, for its OpenAPI schema."""
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
    told: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        told[status] = {"model": ProblemReply, "description": MEANINGS[status]}
        if status in (429, 503):
            told[status]["headers"] = retry
    return told


MEANINGS = {
    400: "The body is not JSON.",
    401: "A valid token is needed.",
    404: "No such model or job.",
    408: "The body did not come in time.",
    409: "The job was cancelled.",
    413: "The body is too large.",
    422: "A field is unknown, missing or of a value that cannot be served.",
    429: "The queue is full, or too many requests are under way.",
    503: "The station is stopping, or the image could not be made; another one may be able to.",
    504: "The deadline passed while the request waited.",
}
EVERYWHERE = (400, 401, 408, 413)
JOB_PATH = IMAGES_PATH + "/{id}"
LINKS = {name: {"operationId": name, "parameters": {"id": "$response.body#/id"}} for name in ("job", "cancel")}
JobId = Annotated[str, Path(max_length=100)]


async def ended_or_gone(order: Order, request: Request) -> None:
    """Wait for an order; cancel it where its client goes first."""
    waits = [asyncio.ensure_future(order.ended.wait()), asyncio.ensure_future(until_gone(request))]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
        order.cancel(CANCELLED())  # nothing happens where it has ended


class EventStream(EventSourceResponse):
    """An order's server-sent events; the client's going cancels it, be it before the first one."""

    def __init__(self, order: Order):
        super().__init__(events(order), headers={"cache-control": "no-store"})
        self.order = order

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.order.cancel(CANCELLED())


async def events(order: Order) -> AsyncIterator[bytes]:
    try:
        async for event in order.stream():
            yield format_sse_event(data_str=event.model_dump_json(), event=event.type)
    except Refusal as refusal:
        yield format_sse_event(data_str=ProblemReply(error=refusal.problem).model_dump_json(), event="error")


def create_app(station: Station, token: str | None = None) -> FastAPI:
    """The station's HTTP interface; with a ``token``, all but health and metrics ask for it."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        station.start()
        yield
        await station.close()

    # The gate checks the token before it reads the body; the dependency only tells the schema.
    guarded = [Depends(HTTPBearer(auto_error=False))] if token else []
    app = FastAPI(title=f"edgebrush station {station.name}", lifespan=life, docs_url=None, redoc_url=None)
    add_gates(app, station, token)
    add_problems(app)
    streamed = {"description": "The images; as a stream, server-sent events.", "content": {"text/event-stream": {}}}
    exposition: dict[str, Any] = {"content": {"text/plain": {}}}

    @app.post(
        IMAGES_PATH,
        dependencies=guarded,
        response_model=ImageReply,
        responses={
            200: streamed,
            202: {"model": JobReply, "description": "Taken; Location tells where to ask for it.", "links": LINKS},
            **problems(*EVERYWHERE, 404, 409, 422, 429, 503, 504),
        },
    )
    async def generate(body: ImageRequest, request: Request, prefer: Annotated[str, Header()] = "") -> Any:
        """Make images: in one reply, as a stream, or (`Prefer: respond-async`) as a job to ask for."""
        order = station.place(body)
        if "respond-async" in prefer:
            station.keep(order)
            headers = {"location": f"{IMAGES_PATH}/{order.id}", "preference-applied": "respond-async"}
            return JSONResponse(order.report().model_dump(), 202, headers)
        if body.stream:
            return EventStream(order)
        await ended_or_gone(order, request)
        return order.reply()

    @app.get(JOB_PATH, operation_id="job", dependencies=guarded, responses=problems(*EVERYWHERE, 404, 422))
    async def job(id: JobId) -> JobReply:
        """How far a job is; the images once it has ended."""
        return station.job(id).report()

    @app.delete(JOB_PATH, operation_id="cancel", dependencies=guarded, responses=problems(*EVERYWHERE, 404, 422))
    async def cancel(id: JobId) -> JobReply:
        """Cancel a job: at once where it waits, before its next step where it runs."""
        order = station.job(id)
        order.cancel(CANCELLED())
        return order.report()

    @app.get("/v1/models", dependencies=guarded, responses=problems(*EVERYWHERE))
    async def models() -> ModelList:
        """The model that is served."""
        return ModelList(data=[Model(id=station.backend.name, created=int(station.started_at), owned_by=station.name)])

    @app.get(LOAD_PATH, dependencies=guarded, responses=problems(*EVERYWHERE))
    async def load() -> Load:
        """The broadcast: what a UE may know of this station."""
        return station.load()

    @app.get("/healthz", responses=problems(408, 413, 503))
    async def healthz() -> Health:
        """Whether the engine lives."""
        if not station.alive:
            raise Refusal(503, "the engine has ended", "server_error", code="dead", retry_after_s=STOP_RETRY_S)
        return Health()

    @app.get("/readyz", responses=problems(408, 413, 503))
    async def readyz() -> Health:
        """Whether requests are taken."""
        if station.stopping or not station.alive:
            raise STOPPING()
        return Health()

    @app.get("/metrics", response_class=Response, responses={200: exposition, **problems(408, 413)})
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(station.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def is_partly(route: Route, request: Request) -> bool:
    """Whether a route is of the request's path, but not of its method."""
    return route.matches(request.scope)[0] is Match.PARTIAL


def add_gates(app: FastAPI, station: Station, token: str | None) -> None:
    """From the inside out: the body, the requests under way, the token; all that they answer is counted."""
    app.add_middleware(BodyGate)
    app.add_middleware(RequestGate, station=station)
    if token:
        app.add_middleware(TokenGate, token=token)
    app.add_middleware(CountedAnswers, path=IMAGES_PATH, counter=station.metrics.requests)


def add_problems(app: FastAPI) -> None:
    """Whatever goes wrong is answered in OpenAI's shape."""

    @app.exception_handler(Refusal)
    async def refuse(_: Request, refusal: Refusal) -> Response:
        return answer(refusal)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return answer(refusal_of(list(error.errors())))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        response = answer(Refusal(error.status_code, str(error.detail)))
        if error.status_code == 405:  # Starlette names the methods of the first route of that path only
            fitting = [route for route in app.routes if isinstance(route, Route) and is_partly(route, request)]
            response.headers["allow"] = ", ".join(sorted(set().union(*(route.methods or () for route in fitting))))
        return response

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> Response:
        return answer(Refusal(500, "a fault of the server; its log tells more", "server_error", code="internal_error"))
