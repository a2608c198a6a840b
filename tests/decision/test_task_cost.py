"""The cost of a task, against values computed by hand."""

from types import SimpleNamespace

import pytest

from edgebrush.decision.task_cost import energy_weight_at, fill_cost, penalty, quality_at


def test_quality_is_half_the_ceiling_at_the_half_steps():
    assert quality_at(0.9, 8.0, 2.0, 1.0, 8) == pytest.approx(0.45)
    assert quality_at(0.9, 8.0, 2.0, 1.5, 12) == pytest.approx(0.45)  # a difficulty of 1.5 needs 1.5 times the steps
    assert quality_at(0.9, 8.0, 2.0, 1.0, 24) == pytest.approx(0.9 / (1 + 1 / 9))


def test_an_emptier_battery_makes_energy_dearer():
    assert energy_weight_at(0.2, 3.0, 1.0) == pytest.approx(0.2)
    assert energy_weight_at(0.2, 3.0, 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(("missed", "lost", "expected"), [(False, False, 0), (True, False, 1.5), (True, True, 5.5)])
def test_penalties_add_up(missed, lost, expected):
    assert penalty(1.5, 4.0, missed, lost) == expected


def test_the_cost_is_the_sum_of_its_terms():
    outcome = SimpleNamespace(delay_s=3.0, energy_ue_j=5.0, energy_bs_j=20.0, quality=0.75)
    fill_cost(outcome, delay_weight=2.0, energy_weight=0.1, quality_weight=4.0, bs_energy_weight=0.5, penalty_cost=1.5)
    assert (outcome.delay_cost, outcome.quality_cost, outcome.penalty_cost) == (6.0, 1.0, 1.5)
    assert outcome.energy_cost == pytest.approx(0.1 * (5.0 + 0.5 * 20.0))
    assert outcome.cost == pytest.approx(6.0 + 1.5 + 1.0 + 1.5)
