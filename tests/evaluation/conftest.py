"""Fixtures on a tiny scenario."""

from tests.support.evaluation import drawn, quick, rule, tiny

__all__ = ["drawn", "quick", "rule", "tiny"]
