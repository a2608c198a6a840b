"""Tasks and their results, and the entries that record them in the journal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

# "invalid": the request cannot be served, whoever tries; "overload": no room now, a later try may succeed;
# "deadline": too late; "disconnected": the client has left; "failed": anything else. Empty: there is an image.
FailureKind = Literal["", "invalid", "overload", "deadline", "disconnected", "failed"]

ERROR, IMAGE, OPEN = "error", "image", "open"  # states of a task


@dataclass(frozen=True)
class Task:
    """A requested image. ``id`` is unique; ``accepted_s`` is on the monotonic clock."""

    id: str
    prompt: str
    request: str  # kind of request in the scenario
    seed: int
    negative: str = ""
    guidance: float | None = None  # None: the default of the place that makes the image
    deadline_s: float | None = None  # after acceptance; None: that of the kind of request
    accepted_s: float = 0.0
    fingerprint: str = ""  # digest of the client's whole request; "" where there is none


@dataclass(frozen=True)
class TaskResult:
    """How a task ended: with ``image`` (the bytes of an image file), or with ``error``, the reason in one line."""

    task: str
    image: bytes | None
    error: str = ""
    place: str = ""  # "own" (the UE's device) or the name of a BS
    steps: int = 0
    service_class: int = 0
    delay_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    energy_ue_j: float = 0.0
    energy_bs_j: float = 0.0
    missed: bool = False
    attempts: int = 0
    kind: FailureKind = ""  # of the error
    retry_after_s: float = 0.0  # for the kind "overload": when to try again
    travel_s: float = 0.0  # on the network to and from a BS, if the BS states its own seconds
    server_s: float = 0.0  # at the BS, waiting included
    sent_bytes: int = 0  # body of the request to a BS
    received_bytes: int = 0  # body of its response


def monotonic_s() -> float:
    return round(time.monotonic(), 6)


def wall_time(at: datetime | None = None) -> str:
    """A time, or now, as the journal writes it: ISO 8601 in UTC with milliseconds. These texts sort by time."""
    return (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One event of a task. ``at_s`` is on the monotonic clock; ``time`` is the wall clock in UTC, a label for readers.

    ``on_attempt`` is called in the writer's thread after each attempt to write the entry, with the error or None.
    """

    task: str
    event: str
    at_s: float = field(default_factory=monotonic_s)
    time: str = field(default_factory=wall_time)
    fields: str = "{}"  # JSON
    on_attempt: Callable[[Exception | None], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Acceptance(Entry):
    """The event "accepted" of a new task."""

    requested: str  # the task as JSON


@dataclass(frozen=True, kw_only=True)
class Ending(Entry):
    """The event "ended" of an open task."""

    result: str  # as JSON, without the image
    image: bytes | None
    ended_at: str  # by it, old tasks are removed


def to_json(record: Task | TaskResult) -> str:
    """A task or a result as JSON; images are not included."""
    return json.dumps({**vars(record), "image": None} if isinstance(record, TaskResult) else vars(record))


class SteadyClock:
    """The wall clock of the start plus the time that has passed since, including suspension of the machine.

    Ages of tasks are measured on it, so that a wrong step of the wall clock does not remove tasks.
    """

    CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def __init__(self) -> None:
        self.offset_s = datetime.now(UTC).timestamp() - time.clock_gettime(self.CLOCK)

    def now(self, days_ago: float = 0.0) -> str:
        seconds = self.offset_s + time.clock_gettime(self.CLOCK) - 86_400 * days_ago
        return wall_time(datetime.fromtimestamp(seconds, UTC))
