"""Progress callbacks of long work: every long function reports its phase and the share that is done."""

from __future__ import annotations

from collections.abc import Callable

# (phase, the share of it that is done, a note): what a progress bar needs.
Progress = Callable[[str, float, str], None]


def silent(phase: str, share: float, note: str) -> None:
    """No progress at all."""
