"""The HTTP interface of a station: a FastAPI application with its routes, middleware and error responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from edgebrush.api.application import new_app
from edgebrush.api.disconnects import unless_disconnected
from edgebrush.api.errors import ApiError, add_error_handlers, error_responses
from edgebrush.api.files import add_file_route
from edgebrush.api.metrics import metrics_response
from edgebrush.api.middleware import BodyMiddleware, TokenMiddleware
from edgebrush.api.models import add_model_routes
from edgebrush.api.schema import IMAGES_PATH, LOAD_PATH, Health, ImageReply, ImageRequest, JobReply, Load
from edgebrush.api.streaming import open_stream
from edgebrush.api.timing import ServerTimingMiddleware
from edgebrush.traces import remote_parent

from .middleware import RequestLimitMiddleware, ResponseCountMiddleware
from .station import SHUTDOWN_RETRY_S, Station, cancelled_error, stopping_error

COMMON_STATUSES = (400, 401, 408, 413)
JOB_PATH = IMAGES_PATH + "/{id}"
JOB_LINKS = {name: {"operationId": name, "parameters": {"id": "$response.body#/id"}} for name in ("job", "cancel")}
JobId = Annotated[str, Path(max_length=100)]
Dependencies = list[Any]  # of routes, as FastAPI takes them


def create_app(station: Station, token: str | None = None) -> FastAPI:
    """The station's application. With a ``token``, all routes but health and metrics require it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        station.start()
        yield
        await station.close()

    app = new_app(f"edgebrush station {station.name}", lifespan)
    add_middleware(app, station, token)
    add_error_handlers(app)
    # TokenMiddleware checks the token, before the body is read. This dependency only documents it in the schema.
    token_in_schema: Dependencies = [Depends(HTTPBearer(auto_error=False))] if token else []
    add_image_routes(app, station, token_in_schema)
    add_information_routes(app, station, token_in_schema)
    add_monitoring_routes(app, station)
    return app


def add_image_routes(app: FastAPI, station: Station, dependencies: Dependencies) -> None:
    """Generate images; query and cancel asynchronous jobs."""
    stream = {"description": "The images; for a stream, server-sent events.", "content": {"text/event-stream": {}}}
    accepted = {"model": JobReply, "description": "Accepted; Location is the job's address.", "links": JOB_LINKS}

    @app.post(
        IMAGES_PATH,
        dependencies=dependencies,
        response_model=ImageReply,
        response_model_exclude_none=True,  # clients look whether there is a url
        responses={200: stream, 202: accepted, **error_responses(*COMMON_STATUSES, 404, 409, 422, 429, 503, 504)},
    )
    async def generate(body: ImageRequest, request: Request, prefer: Annotated[str, Header()] = "") -> Any:
        """Generate images: in one reply, as a stream, or (`Prefer: respond-async`) as a job to query later."""
        generation = station.submit(body, str(request.base_url), remote_parent(request.headers))
        if "respond-async" in prefer:
            station.keep(generation)
            headers = {"location": f"{IMAGES_PATH}/{generation.id}", "preference-applied": "respond-async"}
            return JSONResponse((await generation.status()).model_dump(), 202, headers)
        if body.stream:
            return await open_stream(generation.stream(), request, lambda: generation.cancel(cancelled_error()))
        try:
            await unless_disconnected(generation.ended.wait(), request)
        finally:
            generation.cancel(cancelled_error())  # no effect after the end
        return await generation.reply()

    @app.get(
        JOB_PATH, operation_id="job", dependencies=dependencies, responses=error_responses(*COMMON_STATUSES, 404, 422)
    )
    async def job(id: JobId) -> JobReply:
        """The progress of a job, and its images when it has ended."""
        return await station.job(id).status()

    @app.delete(
        JOB_PATH,
        operation_id="cancel",
        dependencies=dependencies,
        responses=error_responses(*COMMON_STATUSES, 404, 422),
    )
    async def cancel(id: JobId) -> JobReply:
        """Cancel a job: at once if it waits, before its next step if it runs."""
        generation = station.job(id)
        generation.cancel(cancelled_error())
        return await generation.status()


def add_information_routes(app: FastAPI, station: Station, dependencies: Dependencies) -> None:
    """The model, the files and the load."""

    add_model_routes(app, station.backend.name, station.name, dependencies, station.backend.guidance)
    add_file_route(app, station.files)

    @app.get(LOAD_PATH, dependencies=dependencies, responses=error_responses(*COMMON_STATUSES))
    async def load() -> Load:
        """The broadcast: what a UE may know about this station."""
        return station.load()


def add_monitoring_routes(app: FastAPI, station: Station) -> None:
    """Health checks and metrics, which need no token."""
    exposition: dict[str, Any] = {"content": {"text/plain": {}}}

    @app.get("/healthz", responses=error_responses(408, 413, 503))
    async def healthz() -> Health:
        """Whether the engine's thread is alive."""
        if not station.alive:
            message = "the engine's thread has ended; restart the station"
            raise ApiError(503, message, "server_error", code="dead", retry_after_s=SHUTDOWN_RETRY_S)
        return Health()

    @app.get("/readyz", responses=error_responses(408, 413, 503))
    async def readyz() -> Health:
        """Whether the station accepts requests."""
        if station.stopping or not station.alive:
            raise stopping_error()
        return Health()

    @app.get("/metrics", response_class=Response, responses={200: exposition, **error_responses(408, 413)})
    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return metrics_response(station.metrics.registry)


def add_middleware(app: FastAPI, station: Station, token: str | None) -> None:
    """From the inside out: request limit, body, token, counter, which sees the responses of all others, and timing.

    A request counts once its body has arrived, so that bodies that never come use up no places.
    """
    app.add_middleware(RequestLimitMiddleware, station=station)
    app.add_middleware(BodyMiddleware)
    if token:
        app.add_middleware(TokenMiddleware, token=token)
    app.add_middleware(ResponseCountMiddleware, counter=station.metrics.requests)
    app.add_middleware(ServerTimingMiddleware)
