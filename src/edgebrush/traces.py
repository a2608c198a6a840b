"""OpenTelemetry traces of tasks, an option: before ``start_traces``, nothing is imported here and nothing recorded.

An agent's span of a task is the root of a trace. It has one child per attempt at a place, and the span of the station
that served an attempt is a child of that. The W3C header `traceparent` takes the ids to the station. Spans hold no
prompts and no images.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from edgebrush.errors import UserError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

Kind = Literal["internal", "client", "server"]  # of a span: client and server are the two ends of a request
EXPORT_TIMEOUT_S = 3  # unless the environment has another one: a process ends soon where no collector answers

_tracer: Tracer | None = None  # None: no traces
_OFF: AbstractContextManager[Any] = nullcontext()


def start_traces(service: str, instance: str) -> TracerProvider:
    """Record the spans of this process and export them by OTLP over HTTP. The rest is exported when the process exits.

    The OTEL_* environment variables say where to and how much, and have precedence over the names of ``service`` and
    ``instance``. Raises ``UserError`` where the extra ``[otel]`` is missing.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UserError(f"traces: {error.name} is not installed; run pip install 'edgebrush[otel]'") from None
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", str(EXPORT_TIMEOUT_S))
    names = Resource.create({"service.name": service, "service.instance.id": instance})
    provider = TracerProvider(resource=names.merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    record_with(provider)
    return provider


def record_with(provider: TracerProvider | None) -> None:
    """Record the spans of this process with a provider; with None, record no more."""
    global _tracer
    _tracer = provider.get_tracer("edgebrush", version("edgebrush")) if provider else None


def span(
    name: str, kind: Kind = "internal", parent: Any = None, start_ns: int | None = None, **attributes: Any
) -> AbstractContextManager[Any]:
    """A span around a block, which fails with the block's exception.

    ``parent`` is a result of ``remote_parent``; without it, the parent is the current span. ``start_ns`` is the time of
    the start if that has passed, in nanoseconds of Unix time.
    """
    if _tracer is None:
        return _OFF
    from opentelemetry.trace import SpanKind

    return _tracer.start_as_current_span(
        name, parent, SpanKind[kind.upper()], _named(attributes), start_time=start_ns, record_exception=False
    )


def describe_span(error: str = "", **attributes: Any) -> None:
    """Add attributes to the current span, and the error that its work ended with."""
    if _tracer is None:
        return
    from opentelemetry.trace import Status, StatusCode, get_current_span

    get_current_span().set_attributes(_named(attributes))
    if error:
        get_current_span().set_status(Status(StatusCode.ERROR, error))


def add_phases(**seconds: float) -> None:
    """Add children to the current span: phases of its work that have ended, each after the one before it.

    ``seconds`` are their names and durations; the first one began with the current span.
    """
    if _tracer is None:
        return
    from opentelemetry.trace import get_current_span

    parent: Any = get_current_span()
    if not parent.is_recording():
        return
    at = parent.start_time
    for name, duration_s in seconds.items():
        end = at + round(1e9 * duration_s)
        _tracer.start_span(name, start_time=at).end(end)
        at = end


def trace_headers() -> dict[str, str]:
    """The HTTP headers that make the current span the parent of the receiver's span; none without a current span."""
    headers: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)
    return headers


def remote_parent(headers: Mapping[str, str]) -> Any:
    """The sender's span by its HTTP headers, for ``span``. Without valid ones, the span begins a new trace."""
    if _tracer is None:
        return None
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(headers, Context())


def current_trace_id() -> str:
    """The id of the current span's trace, 32 hexadecimal digits; "" without a current span."""
    if _tracer is None:
        return ""
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else ""


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {f"edgebrush.{name}": value for name, value in attributes.items()}
