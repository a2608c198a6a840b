"""The bursty process by moments: known parameters come back from simulated requests."""

import numpy as np
import pytest

from edgebrush.fitting.bursts import Bursts, fit_bursts, simulate

TRUTH = Bursts(calm=0.4, burst=2.8, calm_s=30.0, burst_s=10.0)


def test_fit_recovers_a_process_from_its_requests():
    time_s = simulate(TRUTH, 2.0, 400_000.0, np.random.default_rng(7))
    assert len(time_s) / time_s[-1] == pytest.approx(2.0, rel=0.03)
    assert tuple(fit_bursts([time_s], time_s[-1])) == pytest.approx(tuple(TRUTH), rel=0.12)


def test_several_sources_with_phases_of_their_own_give_the_process_of_each():
    rng = np.random.default_rng(8)
    sources = [simulate(TRUTH, 1.0, 100_000.0, rng) for _ in range(6)]
    assert tuple(fit_bursts(sources, 100_000.0)) == pytest.approx(tuple(TRUTH), rel=0.15)
