"""Faults in sequence: a short soak in CI, a long one under `-m slow`, and that each violation is found."""

import pytest

from edgebrush.soak.fault_schedule import PlannedFault, Storm
from edgebrush.soak.run import RECOVERY_S, Runner, Soak, run_soak
from edgebrush.soak.world import make_testbed

CI_KINDS = ("burst", "kill-bs", "cut-link", "errors-5xx", "garbage", "full-disk", "restart-ue")


def assert_sound(soak):
    """No violation, and the accounts are those of a run in which faults happened."""
    assert soak.violations == []
    assert soak.requested == soak.images + soak.errors.total() and soak.lost == soak.twice == 0
    assert soak.failed_over + soak.errors.total() > 0 and soak.faults.total() >= 2 * soak.storms
    assert {"station-1", "station-2", "station-3"} <= set(soak.places)
    assert soak.recoveries and max(each.seconds for each in soak.recoveries) <= RECOVERY_S
    assert {each.process for each in soak.signs} == {"station-1", "station-2", "station-3", "ue-1", "ue-2"}


@pytest.mark.process
@pytest.mark.parametrize("seed", [3])
def test_every_task_ends_once_and_stations_are_used_again_in_a_storm(seed, tmp_path):
    """One storm: a killed station, a cut link, a killed agent, a full disk and a burst of 188 requests."""
    assert_sound(run_soak(make_testbed(tmp_path), seed, 1, 30.0, kinds=CI_KINDS, report=print))


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [100, 101])
def test_every_task_ends_once_over_minutes_of_storms(seed, tmp_path):
    assert_sound(run_soak(make_testbed(tmp_path), seed, 6_000, 40.0, report=print))


# -- violations are found


@pytest.fixture
def runner(tmp_path):
    """A runner whose processes do not run, in a storm."""
    runner = Runner(make_testbed(tmp_path), Soak(seed=7), 1, 10.0, 12, (), lambda line: None)
    runner.storm = Storm(12, (PlannedFault("freeze", 1.0, 2.0, None, 1, 0.5),))
    return runner


def test_a_violation_states_all_that_a_replay_needs(runner):
    runner._recovery((1, 2), RECOVERY_S - 0.1)
    assert runner.soak.violations == []
    runner._recovery((1, 2), RECOVERY_S + 2.0)
    (found,) = runner.soak.violations
    assert "ue-2 did not use the idle station station-3 within 12.0 s; storm 12: 1.0 s freeze at bs 2" in found
    assert "python benchmarks/soak.py --seed 7 --storm 12" in found and str(runner.testbed.folder) in found


def test_lost_and_repeated_tasks_are_violations(runner):
    """a ended in an image, b never ended, c has no image in the journal, d has no answer."""
    runner.load.requested, runner.load.images, runner.load.open = 4, {"a", "c"}, {"d": 0.0}
    for event in ("accepted", "ended", "ended"):
        runner.watch._count(0, {"task": "a-0", "event": event, "ok": True, "ended": {"place": "own"}, "at_s": 1.0})
    runner.watch._count(0, {"task": "b-0", "event": "accepted"})
    runner._settle()
    assert (runner.soak.lost, runner.soak.twice, runner.soak.images) == (3, 1, 2)
    lost, answers = runner.soak.violations
    assert "3 tasks have not ended or have no image in the journal: ['b', 'c', 'd']" in lost
    assert "4 requests, but 2 answers" in answers


def test_uses_of_a_station_count_only_after_the_fault(runner):
    watch = runner.watch
    for at_s, place in ((10.0, "station-1"), (12.5, "station-1"), (12.0, "own")):
        watch._count(0, {"task": f"{at_s}", "event": "ended", "ok": True, "ended": {"place": place}, "at_s": at_s})
    assert watch.first_use_s((0, 0), 11.0) == 12.5 and watch.first_use_s((0, 0), 13.0) is None
    assert watch.first_use_s((1, 0), 0.0) is None and watch.places == {"station-1": 2, "own": 1}
    watch.forget_uses()
    assert watch.first_use_s((0, 0), 0.0) is None
