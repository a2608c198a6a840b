"""Memory and descriptors: growth without bound is found, warm-up and restarts are not."""

import os

import pytest

from edgebrush.soak.vital_signs import VitalSigns, growth_problems, measure


def samples(memory_mb, descriptors=lambda n: 20, pid=1, count=50, tasks=1000):
    """One sample per ``tasks`` tasks; ``memory_mb`` and ``descriptors`` are functions of the sample's number."""
    return [
        VitalSigns("ue-1", pid, 10.0 * n, tasks * n, int(1e6 * memory_mb(n)), int(descriptors(n))) for n in range(count)
    ]


def test_this_process_has_memory_and_descriptors():
    signs = measure("test", os.getpid(), 1.0, 2)
    assert signs.memory_bytes > 1e6 and signs.descriptors > 2 and (signs.at_s, signs.tasks) == (1.0, 2)
    assert measure("test", 2**22 + 1, 1.0, 2) is None


def test_flat_processes_are_no_problem():
    assert growth_problems(samples(lambda n: 100 + n % 5)) == []
    assert growth_problems(samples(lambda n: 100 + 3 * min(n, 10))) == []  # warm-up
    assert growth_problems(samples(lambda n: 100 + 8 * (n > 30))) == []  # the largest burst so far
    assert growth_problems(samples(lambda n: 100, lambda n: 40 + 25 * (n % 7 == n % 3))) == []  # noise
    lives = samples(lambda n: 100 + n, pid=1, count=6) + samples(lambda n: 100 + n, pid=2, count=6)
    assert growth_problems(lives) == []  # too short to tell


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (samples(lambda n: 100 + 0.5 * n), "ue-1: memory grows by 500 bytes per task (limit 300)"),
        (samples(lambda n: 100 + 300 * (n == 4), count=5), "ue-1: memory grew by 300 MB (limit 60)"),
        (samples(lambda n: 100, lambda n: 20 + 2 * n), "ue-1: 200 descriptors leak in 100,000 tasks (limit 100)"),
        (
            samples(lambda n: 100, lambda n: 20 + 300 * (n == 4), count=5),
            "ue-1: 300 more descriptors than at",
        ),
    ],
)
def test_growth_is_found(series, message):
    assert growth_problems(series)[0].startswith(message)
