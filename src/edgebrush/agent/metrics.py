"""Prometheus metrics of an agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, get_args

from fastapi import FastAPI, Response
from prometheus_client import Counter, Gauge, Histogram, Summary

from edgebrush.api.metrics import DURATION_BUCKETS_S, metrics_response, new_registry
from edgebrush.journal.records import IMAGE, FailureKind, TaskResult

from .observer import StationView
from .stations import RemoteStation

if TYPE_CHECKING:
    from .agent import Agent

STATION_GAUGES = {
    "station_available": "Whether the policy may choose the BS.",
    "station_in_flight": "This UE's tasks at the BS.",
    "station_load_age_seconds": "Age of the BS's last load report.",
    "station_uplink_bytes_per_second": "Estimated rate of the uplink.",
    "station_downlink_bytes_per_second": "Estimated rate of the downlink.",
}
FAILURE_KINDS = tuple(kind for kind in get_args(FailureKind) if kind)
NO_PLACE = "none"  # the place of a task without image


class Metrics:
    """One agent's metrics, in their own registry."""

    def __init__(self) -> None:
        registry = self.registry = new_registry()
        self.decisions = Summary(
            "edgebrush_ue_decision_steps", "Denoising steps of decisions, by place.", ["place"], registry=registry
        )
        self.failovers = Counter(
            "edgebrush_ue_failovers",
            "Attempts that failed, by place and kind of error.",
            ["place", "reason"],
            registry=registry,
        )
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
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.attempts = Counter("edgebrush_ue_attempts", "Places tried, over all ended tasks.", registry=registry)
        self.missed = Counter("edgebrush_ue_missed_deadlines", "Tasks that missed their deadline.", registry=registry)
        self.energy = Counter(
            "edgebrush_ue_energy_joules", "Energy of ended tasks, by who spent it.", ["spender"], registry=registry
        )

    def on_decision(self, place: str, steps: int) -> None:
        """Count a decision."""
        self.decisions.labels(place).observe(steps)

    def on_failover(self, place: str, reason: FailureKind) -> None:
        """Count an attempt that failed."""
        self.failovers.labels(place, reason or "failed").inc()

    def on_end(self, result: TaskResult) -> None:
        """Count a task that has ended."""
        self.tasks.labels(result.place or NO_PLACE, outcome_of(result)).inc()
        self.attempts.inc(result.attempts)
        self.missed.inc(result.missed)
        self.energy.labels("ue").inc(result.energy_ue_j)
        self.energy.labels("bs").inc(result.energy_bs_j)
        if not result.error:
            self.delay.labels(result.place).observe(result.delay_s)

    def watch(self, agent: Agent) -> None:
        """Count all places from 0, and add the gauges, which read the agent's state when they are queried."""
        self._begin(agent.places)
        self._gauge("running", "Tasks that have not ended.").set_function(lambda: len(agent.running))
        waiting = self._gauge("own_waiting", "Tasks that wait for the own device.")
        waiting.set_function(lambda: agent.device.queue().waiting)
        level = self._gauge("battery_level", "Level of the battery's model, 0 to 1.")
        level.set_function(lambda: agent.observer.level)
        writable = self._gauge("journal_writable", "Whether tasks can be recorded; without that, none is accepted.")
        writable.set_function(lambda: not agent.journal.problem)
        size = self._gauge("journal_bytes", "Size of the journal's files.")
        size.set_function(agent.journal.size_bytes)
        free = self._gauge("journal_free_bytes", "Free space on the journal's disk.")
        free.set_function(agent.journal.free_bytes)
        gauges = [self._gauge(name, text, "station") for name, text in STATION_GAUGES.items()]
        for station in agent.stations:
            for gauge, value in zip(gauges, station_values(station, agent.clock), strict=True):
                gauge.labels(station.name).set_function(value)

    def _begin(self, places: Sequence[str]) -> None:
        """Begin the series of all places at 0, so that a rate sees the first event of each."""
        for place in places:
            self.decisions.labels(place)
            self.delay.labels(place)
            self.tasks.labels(place, IMAGE)
            for kind in FAILURE_KINDS:
                self.failovers.labels(place, kind)
        for kind in FAILURE_KINDS:
            self.tasks.labels(NO_PLACE, kind)
        for spender in ("ue", "bs"):
            self.energy.labels(spender)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"edgebrush_ue_{name}", text, labels, registry=self.registry)


def station_values(station: RemoteStation, clock: Callable[[], float]) -> list[Callable[[], float]]:
    """Functions that read a BS's gauges, in the order of ``STATION_GAUGES``."""

    def view() -> StationView:
        return station.view_at(clock())

    return [
        lambda: not station.unavailable,
        lambda: view().in_flight,
        lambda: clock() - view().load.time,
        lambda: view().up_bps / 8,
        lambda: view().down_bps / 8,
    ]


def outcome_of(result: TaskResult) -> str:
    """``image``, or the kind of error."""
    return (result.kind or "failed") if result.error else IMAGE


def add_metrics_route(app: FastAPI, agent: Agent) -> None:
    """Serve the metrics at ``/metrics``."""
    metrics = agent.history.metrics
    metrics.watch(agent)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def text() -> Response:
        """Metrics in Prometheus' text format."""
        return metrics_response(metrics.registry)
