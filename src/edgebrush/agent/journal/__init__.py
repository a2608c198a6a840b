"""The journal of an agent. Other processes read journals with ``journal.reader``."""

from .journal import KEEP_DAYS, KEEP_TASKS, Journal, JournalError
from .records import Task, TaskResult

__all__ = ["KEEP_DAYS", "KEEP_TASKS", "Journal", "JournalError", "Task", "TaskResult"]
