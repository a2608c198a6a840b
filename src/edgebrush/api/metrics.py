"""What the metrics of stations and agents have in common: the registry, the buckets of durations, the response."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, ProcessCollector, generate_latest

# Images take 0.05 s (a shipped model) to a minute (a large one behind a queue).
DURATION_BUCKETS_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)


def new_registry() -> CollectorRegistry:
    """A registry with the process's own metrics (``process_*``) and the version of edgebrush."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Gauge("edgebrush_build_info", "Always 1; the version is a label.", ["version"], registry=registry)
    build.labels(version("edgebrush")).set(1)
    return registry


def metrics_response(registry: CollectorRegistry) -> Response:
    """All metrics of a registry in Prometheus' text format."""
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
