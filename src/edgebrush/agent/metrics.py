"""Prometheus metrics of an agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from edgebrush.journal.records import TaskResult

from .observer import StationView
from .stations import RemoteStation

if TYPE_CHECKING:
    from .agent import Agent

STATION_GAUGES = {
    "station_available": "Whether the policy may choose the BS.",
    "station_in_flight": "This UE's tasks at the BS.",
    "station_load_age_seconds": "Age of the BS's last load report.",
    "station_up_bps": "Estimated rate of the uplink.",
    "station_down_bps": "Estimated rate of the downlink.",
}
DELAY_BUCKETS_S = (0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """One agent's metrics, in their own registry."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.tasks = Counter(
            "edgebrush_ue_tasks",
            "Ended tasks by place (none: no place made an image) and outcome (image, or the kind of error).",
            ["place", "outcome"],
            registry=registry,
        )
        self.delay = Histogram(
            "edgebrush_ue_delay_seconds",
            "Time from a task's acceptance to its image.",
            ["place"],
            buckets=DELAY_BUCKETS_S,
            registry=registry,
        )
        self.attempts = Counter("edgebrush_ue_attempts", "Places tried, over all ended tasks.", registry=registry)
        self.missed = Counter("edgebrush_ue_missed_deadlines", "Tasks that missed their deadline.", registry=registry)
        self.energy = Counter(
            "edgebrush_ue_energy_joules", "Energy of ended tasks, by who spent it.", ["spender"], registry=registry
        )

    def on_end(self, result: TaskResult) -> None:
        """Count a task that has ended."""
        self.tasks.labels(result.place or "none", outcome_of(result)).inc()
        self.attempts.inc(result.attempts)
        self.missed.inc(result.missed)
        self.energy.labels("ue").inc(result.energy_ue_j)
        self.energy.labels("bs").inc(result.energy_bs_j)
        if not result.error:
            self.delay.labels(result.place).observe(result.delay_s)

    def watch(self, agent: Agent) -> None:
        """Add the gauges, which read the agent's state when they are queried."""
        self._gauge("running", "Tasks that have not ended.").set_function(lambda: len(agent.running))
        waiting = self._gauge("own_waiting", "Tasks that wait for the own device.")
        waiting.set_function(lambda: agent.device.queue().waiting)
        level = self._gauge("battery_level", "Level of the battery's model, 0 to 1.")
        level.set_function(lambda: agent.observer.level)
        writable = self._gauge("journal_writable", "Whether tasks can be recorded; without that, none is accepted.")
        writable.set_function(lambda: not agent.journal.problem)
        gauges = [self._gauge(name, text, "station") for name, text in STATION_GAUGES.items()]
        for station in agent.stations:
            for gauge, value in zip(gauges, station_values(station, agent.clock), strict=True):
                gauge.labels(station.name).set_function(value)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"edgebrush_ue_{name}", text, labels, registry=self.registry)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def station_values(station: RemoteStation, clock: Callable[[], float]) -> list[Callable[[], float]]:
    """Functions that read a BS's gauges, in the order of ``STATION_GAUGES``."""

    def view() -> StationView:
        return station.view_at(clock())

    return [
        lambda: not station.unavailable,
        lambda: view().in_flight,
        lambda: clock() - view().load.time,
        lambda: view().up_bps,
        lambda: view().down_bps,
    ]


def outcome_of(result: TaskResult) -> str:
    """``image``, or the kind of error."""
    return (result.kind or "failed") if result.error else "image"


def add_metrics_route(app: FastAPI, agent: Agent) -> None:
    """Serve the metrics at ``/metrics``."""
    metrics = agent.history.metrics
    metrics.watch(agent)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def text() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)
