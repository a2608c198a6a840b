"""The journal of an agent, and what it keeps of ended tasks by default."""

KEEP_TASKS, KEEP_DAYS = 10_000, 30.0
