"""Fixtures on a tiny scenario, and the numbers of a tiny training that nothing disturbs."""

import pytest

from edgebrush.jobs.executor import run_jobs
from edgebrush.jobs.local import LocalExecutor
from edgebrush.progress import no_progress
from tests.support.evaluation import tiny
from tests.support.study import numbers, tiny_training

__all__ = ["tiny"]


@pytest.fixture(scope="session")
def undisturbed(tiny, tmp_path_factory):
    """The curve and the weights of ``tiny_training``, run on this machine."""
    job = tiny_training(tiny, tmp_path_factory.mktemp("cache"))
    assert not run_jobs([job], LocalExecutor(1), "training", no_progress).failures
    return numbers(job)
