"""Progress callbacks: what long functions call to report how far they are."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[str, float, str], None]  # (phase, share of the phase that is done, a note)
ShareCallback = Callable[[float], None]  # (share that is done), of work that has one phase


def no_progress(phase: str, share: float, note: str) -> None:
    """A ``ProgressCallback`` that ignores every report."""


def no_share(share: float) -> None:
    """A ``ShareCallback`` that ignores every report."""
