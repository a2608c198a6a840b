"""What a station tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

WAITS_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
ROUNDS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)


class Metrics:
    """One station's numbers, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.running = Gauge("edgebrush_running", "Tasks in the batch.", registry=registry)
        self.waiting = Gauge(
            "edgebrush_waiting", "Tasks that wait for a place in the batch: there is no other queue.", registry=registry
        )
        self.connections = Gauge(
            "edgebrush_connections", "Requests being received, worked on or answered.", registry=registry
        )
        self.queue_wait = Histogram(
            "edgebrush_queue_wait_seconds", "From admission to the batch.", buckets=WAITS_S, registry=registry
        )
        self.round = Histogram(
            "edgebrush_round_seconds", "A denoising step of the batch.", buckets=ROUNDS_S, registry=registry
        )
        self.steps = Counter("edgebrush_steps", "Denoising steps of all tasks.", registry=registry)
        self.energy = Counter("edgebrush_energy_joules", "Joules by the profile.", registry=registry)
        self.requests = Counter(
            "edgebrush_requests", "Image requests by the status they got.", ["status"], registry=registry
        )

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


class CountedAnswers:
    """Counts the answers to the requests of a path by their status."""

    def __init__(self, app: ASGIApp, path: str, counter: Counter):
        self.app, self.path, self.counter = app, path, counter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.counter.labels(message["status"]).inc()
            await send(message)

        of_path = scope["type"] == "http" and scope["path"] == self.path
        await self.app(scope, receive, counted if of_path else send)
