"""Policies on held-out episodes: playing, paired statistics, aggregates over seeds, and the run folder."""

EVALUATED_TASKS = 500_000  # of each policy, by default
