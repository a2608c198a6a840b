"""What a reader must know where a run has too few episodes, or blocks of arrivals, to tell a difference from chance."""

from __future__ import annotations

from edgebrush.evaluation.run_folder import Run
from edgebrush.evaluation.statistics import MIN_EPISODES


def caution(run: Run) -> str:
    """One sentence or two; empty where there are enough episodes."""
    if run.results["episodes"] >= MIN_EPISODES:
        return ""
    return (
        f"this run has only {count_episodes(run)}, and fewer than {MIN_EPISODES} cannot tell a difference from chance. "
        "So no difference counts as significant or is coloured, and the intervals are rough; play for longer"
    )


def count_episodes(run: Run) -> str:
    """``1 episode``, or in a testbed ``3 blocks of 10 s of arrivals``: what the intervals resample."""
    number = run.results["episodes"]
    plural = "" if number == 1 else "s"
    if "testbed" in run.results:
        return f"{number} block{plural} of {run.results['horizon_s']:g} s of arrivals"
    return f"{number} episode{plural}"
