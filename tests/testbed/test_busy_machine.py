"""The thresholds above which a run's numbers are not trusted."""

import pytest

from edgebrush.testbed.busy_machine import Timing, denoising_s, load_warnings, timing_warnings

QUIET = Timing(0.5, [0.001] * 99 + [0.3], 10.0, 10.2)


def test_a_quiet_machine_is_trusted():
    assert timing_warnings("a-rule", QUIET) == [] and load_warnings(1.9, cores=2) == []
    assert QUIET.entries() == {
        "asked_too_late_s": 0.3,
        "late_share": 0.01,
        "denoising_overrun": 0.02,
        "load_average": 0.5,
    }


def test_a_busy_machine_is_not_trusted():
    (load,) = load_warnings(5.3, cores=2)
    assert load.endswith("the load average at the start was 5.3 (limit 2, 1 per core)")
    late, slow = timing_warnings("a-rule", Timing(0.5, [0.001, 0.3], 10.0, 12.0))
    assert late.startswith("the machine was too busy for these numbers to be trusted: under a-rule 50% of the requests")
    assert slow.endswith("denoising took 20% longer than paced (limit 5%)")


def test_the_paced_time_of_rounds_is_read_from_metrics():
    """Three rounds, of 1, 1 and 2 images."""
    page = """\
# TYPE edgebrush_round_seconds histogram
edgebrush_round_seconds_bucket{le="+Inf"} 3.0
edgebrush_round_seconds_count 3.0
edgebrush_round_seconds_sum 0.5
# TYPE edgebrush_steps_total counter
edgebrush_steps_total 4.0
"""
    assert denoising_s(page, 0.1, 0.02) == (pytest.approx(0.38), 0.5)
