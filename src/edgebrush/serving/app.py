"""The HTTP interface of a station: a FastAPI application with its routes, middleware and error responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from edgebrush.api.errors import ApiError, add_error_handlers, error_response
from edgebrush.api.middleware import BodyMiddleware, TokenMiddleware
from edgebrush.api.schema import (
    IMAGES_PATH,
    LOAD_PATH,
    ErrorReply,
    Health,
    ImageReply,
    ImageRequest,
    JobReply,
    Load,
    Model,
    ModelList,
)

from .middleware import RequestLimitMiddleware, ResponseCountMiddleware
from .station import SHUTDOWN_RETRY_S, Station, cancelled_error, stopping_error
from .streaming import EventStream, wait_for_end

STATUS_DESCRIPTIONS = {
    400: "The body is not JSON.",
    401: "The token is missing or wrong.",
    404: "Unknown model or job.",
    408: "The body did not arrive in time.",
    409: "The job was cancelled.",
    413: "The body is too large.",
    422: "A field is unknown, missing, or has an unsupported value.",
    429: "The queue is full, or too many requests are in progress.",
    503: "The station is shutting down, or the model failed. Another station may be available.",
    504: "The deadline passed while the request waited.",
}
COMMON_STATUSES = (400, 401, 408, 413)
JOB_PATH = IMAGES_PATH + "/{id}"
JOB_LINKS = {name: {"operationId": name, "parameters": {"id": "$response.body#/id"}} for name in ("job", "cancel")}
JobId = Annotated[str, Path(max_length=100)]
Dependencies = list[Any]  # of routes, as FastAPI takes them


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's error responses, for its OpenAPI schema."""
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        responses[status] = {"model": ErrorReply, "description": STATUS_DESCRIPTIONS[status]}
        if status in (429, 503):
            responses[status]["headers"] = retry
    return responses


def create_app(station: Station, token: str | None = None) -> FastAPI:
    """The station's application. With a ``token``, all routes but health and metrics require it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        station.start()
        yield
        await station.close()

    title = f"edgebrush station {station.name}"
    app = FastAPI(title=title, lifespan=lifespan, docs_url=None, redoc_url=None)
    add_middleware(app, station, token)
    add_error_handlers(app)
    add_fallback_error_handlers(app)
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
        responses={200: stream, 202: accepted, **error_responses(*COMMON_STATUSES, 404, 409, 422, 429, 503, 504)},
    )
    async def generate(body: ImageRequest, request: Request, prefer: Annotated[str, Header()] = "") -> Any:
        """Generate images: in one reply, as a stream, or (`Prefer: respond-async`) as a job to query later."""
        generation = station.submit(body)
        if "respond-async" in prefer:
            station.keep(generation)
            headers = {"location": f"{IMAGES_PATH}/{generation.id}", "preference-applied": "respond-async"}
            return JSONResponse(generation.status().model_dump(), 202, headers)
        if body.stream:
            return EventStream(generation)
        await wait_for_end(generation, request)
        return generation.reply()

    @app.get(
        JOB_PATH, operation_id="job", dependencies=dependencies, responses=error_responses(*COMMON_STATUSES, 404, 422)
    )
    async def job(id: JobId) -> JobReply:
        """The progress of a job, and its images when it has ended."""
        return station.job(id).status()

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
        return generation.status()


def add_information_routes(app: FastAPI, station: Station, dependencies: Dependencies) -> None:
    """The model and the load."""

    @app.get("/v1/models", dependencies=dependencies, responses=error_responses(*COMMON_STATUSES))
    async def models() -> ModelList:
        """The served model."""
        return ModelList(data=[Model(id=station.backend.name, created=int(station.started_at), owned_by=station.name)])

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
        return Response(station.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def add_middleware(app: FastAPI, station: Station, token: str | None) -> None:
    """From the inside out: body, request limit, token, and the counter, which sees the responses of all others."""
    app.add_middleware(BodyMiddleware)
    app.add_middleware(RequestLimitMiddleware, station=station)
    if token:
        app.add_middleware(TokenMiddleware, token=token)
    app.add_middleware(ResponseCountMiddleware, counter=station.metrics.requests)


def add_fallback_error_handlers(app: FastAPI) -> None:
    """Answer unknown paths and methods, and the server's own faults, in OpenAI's format."""

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        response = error_response(ApiError(error.status_code, str(error.detail)))
        if error.status_code == 405:  # Starlette lists only the methods of the first route with that path
            routes = [route for route in app.routes if isinstance(route, Route) and matches_path(route, request)]
            response.headers["allow"] = ", ".join(sorted(set().union(*(route.methods or () for route in routes))))
        return response

    @app.exception_handler(Exception)
    async def internal_error(_: Request, error: Exception) -> Response:
        message = "internal error; see the server's log"
        return error_response(ApiError(500, message, "server_error", code="internal_error"))


def matches_path(route: Route, request: Request) -> bool:
    """Whether a route has the request's path, but not its method."""
    return route.matches(request.scope)[0] is Match.PARTIAL
