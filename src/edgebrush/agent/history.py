"""What an agent has done since its start: metrics, logs, spans, and the newest decisions with their outcomes."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from dataclasses import dataclass

from edgebrush import traces
from edgebrush.clients.failures import PlaceError
from edgebrush.journal.records import TaskResult

from .decisions import Decision
from .metrics import NO_PLACE, Metrics, outcome_of

KEPT_DECISIONS = 20

log = logging.getLogger(__name__)


@dataclass
class PastDecision:
    """A decision, the wall-clock time of it, and what came of it."""

    task: str
    decision: Decision
    time: float
    outcome: str = "running"


class History:
    """``decisions`` has the newest first; ``counts`` has the number of ended tasks by (place, outcome)."""

    def __init__(self) -> None:
        self.started_s = time.monotonic()
        self.metrics = Metrics()
        self.decisions: deque[PastDecision] = deque(maxlen=KEPT_DECISIONS)
        self.counts: Counter[tuple[str, str]] = Counter()

    def on_decision(self, task_id: str, decision: Decision) -> None:
        self.metrics.on_decision(decision.place, decision.steps)
        self.decisions.appendleft(PastDecision(task_id, decision, time.time()))

    def on_failover(self, task_id: str, place: str, error: PlaceError) -> None:
        """The place of a task's last decision has failed. Called within the attempt's span."""
        self.metrics.on_failover(place, error.kind)
        self._set_outcome(task_id, f"failed: {error}")
        fields = {"task": task_id, "place": place, "status": error.kind, "reason": error.shareable}
        log.info("task %s: failed at %s: %s", task_id, place, error.shareable, extra=fields)
        traces.describe_span(error=error.shareable)

    def on_end(self, result: TaskResult) -> None:
        """A task has ended. Called within its span."""
        outcome = outcome_of(result)
        self.metrics.on_end(result)
        self.counts[result.place or NO_PLACE, outcome] += 1
        self._set_outcome(result.task, f"{outcome} after {result.delay_s:.3g} s")
        self._log_end(result, outcome)
        traces.describe_span(
            error=outcome if result.error else "",
            place=result.place or NO_PLACE,
            outcome=outcome,
            steps=result.steps,
            service_class=result.service_class,
            attempts=result.attempts,
            missed_deadline=result.missed,
            energy_ue_j=result.energy_ue_j,
            energy_bs_j=result.energy_bs_j,
        )

    def _log_end(self, result: TaskResult, outcome: str) -> None:
        """Log the end, without the text of an error, which may quote the prompt: the failed attempts were logged."""
        seconds = round(result.delay_s, 4)
        fields = {"task": result.task, "place": result.place or None, "status": outcome, "seconds": seconds}
        what = outcome if result.error else f"image at {result.place}"
        log.info("task %s: %s after %.3g s", result.task, what, seconds, extra=fields)

    def _set_outcome(self, task_id: str, outcome: str) -> None:
        """Set the outcome of a task's last decision, unless its place has given one."""
        for past in self.decisions:
            if past.task == task_id and past.outcome == "running":
                past.outcome = outcome
