"""Prometheus metrics of a station."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from edgebrush.api.errors import STATUS_DESCRIPTIONS
from edgebrush.api.metrics import DURATION_BUCKETS_S, new_registry

ROUND_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
STATUSES = (200, 202, *STATUS_DESCRIPTIONS)  # counted from 0, so that a rate sees the first one of each


class Metrics:
    """One station's metrics, in their own registry."""

    def __init__(self) -> None:
        registry = self.registry = new_registry()
        self.running = Gauge("edgebrush_running", "Images in the batch.", registry=registry)
        self.batch_limit = Gauge("edgebrush_batch_limit", "Maximum number of images in the batch.", registry=registry)
        self.waiting = Gauge("edgebrush_waiting", "Images that wait for a place in the batch.", registry=registry)
        self.queue_limit = Gauge("edgebrush_queue_limit", "Maximum number of waiting images.", registry=registry)
        self.connections = Gauge("edgebrush_connections", "Requests being processed or answered.", registry=registry)
        self.queue_wait = Histogram(
            "edgebrush_queue_wait_seconds",
            "Time from admission to the batch.",
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.round = Histogram(
            "edgebrush_round_seconds",
            "Duration of a denoising step of the batch.",
            buckets=ROUND_BUCKETS_S,
            registry=registry,
        )
        self.steps = Counter("edgebrush_steps", "Denoising steps of all images.", registry=registry)
        self.energy = Counter("edgebrush_energy_joules", "Energy by the profile.", registry=registry)
        self.requests = Counter(
            "edgebrush_requests", "Image requests by response status.", ["status"], registry=registry
        )
        for status in STATUSES:
            self.requests.labels(status)
