"""The journal of an agent. Other processes read journals with ``journal.reader``."""

from .journal import Journal, JournalError
from .records import Task, TaskResult

__all__ = ["Journal", "JournalError", "Task", "TaskResult"]
