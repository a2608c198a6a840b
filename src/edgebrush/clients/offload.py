"""A task for a BS, after the decision."""

from __future__ import annotations

from dataclasses import dataclass

from edgebrush.journal.records import Task


@dataclass(frozen=True)
class Offload:
    """A task for a BS. ``deadline_s`` counts from now; sizes in bits as in the scenario.

    ``is_valid``: the UE's own model accepts the request, so a BS that calls it invalid is at fault. A BS that gets less
    time than ``expected_s``, because of the deadline, is not.
    """

    task: Task
    steps: int
    service_class: int
    bits_in: float
    bits_out: float
    deadline_s: float | None
    is_valid: bool = False
    expected_s: float = 0.0
