"""Policies on held-out episodes: statistics and run folders."""

EVALUATED_TASKS = 500_000  # of each policy, by default
