"""Fixtures of the journal's tests."""

from tests.support.journals import quick_disk  # noqa: F401
