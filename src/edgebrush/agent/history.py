"""What an agent has done since its start: counts of ended tasks, and the newest decisions with their outcomes."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgebrush.journal.records import TaskResult

from .metrics import Metrics, outcome_of

if TYPE_CHECKING:
    from .agent import Decision

KEPT_DECISIONS = 20


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
        self.decisions.appendleft(PastDecision(task_id, decision, time.time()))

    def on_failover(self, task_id: str, reason: str) -> None:
        """The place of a task's last decision has failed."""
        self._set_outcome(task_id, f"failed: {reason}")

    def on_end(self, result: TaskResult) -> None:
        """A task has ended."""
        outcome = outcome_of(result)
        self.metrics.on_end(result)
        self.counts[result.place or "none", outcome] += 1
        self._set_outcome(result.task, f"{outcome} after {result.delay_s:.3g} s")

    def _set_outcome(self, task_id: str, outcome: str) -> None:
        """Set the outcome of a task's last decision, unless its place has given one."""
        for past in self.decisions:
            if past.task == task_id and past.outcome == "running":
                past.outcome = outcome
