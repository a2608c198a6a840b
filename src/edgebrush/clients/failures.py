"""Why a place did not generate an image, and what that means for the task."""

from __future__ import annotations

from collections.abc import Iterable

from edgebrush.journal.records import FailureKind


class PlaceError(Exception):
    """A place did not generate an image; the message states the reason in one line.

    ``retry_after_s`` is when an overloaded place may have room, in seconds from now.
    """

    def __init__(self, reason: str, kind: FailureKind = "failed", retry_after_s: float = 0.0):
        super().__init__(reason)
        self.kind, self.retry_after_s = kind, retry_after_s

    @property
    def shareable(self) -> str:
        """The reason for logs and traces: that of an invalid request may quote its prompt, so it is left out."""
        return self.kind if self.kind == "invalid" else str(self)


def kind_of_task(errors: Iterable[PlaceError]) -> FailureKind:
    """The kind of a task's failure, from the errors of its places.

    It is the client's mistake only if every place says so. If any place was full, a later try may succeed.
    """
    kinds = {error.kind for error in errors}
    if kinds == {"invalid"}:
        return "invalid"
    return "overload" if "overload" in kinds else "failed"


def retry_after(errors: Iterable[PlaceError]) -> float:
    """Seconds until the first of the overloaded places may have room; 0 where none is overloaded."""
    return min((error.retry_after_s for error in errors if error.kind == "overload"), default=0.0)
