"""Tests of measuring share a tiny model and a tiny classifier."""

from tests.support.models import tiny, tiny_classifier, tiny_folder  # noqa: F401  # fixtures
