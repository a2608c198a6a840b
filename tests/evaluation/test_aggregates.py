"""Aggregates over training seeds, against values computed by hand, SciPy, and the coverage of their intervals."""

import numpy as np
import pytest
from scipy import stats

from edgebrush.evaluation.aggregates import (
    aggregate,
    interquartile_mean,
    mean,
    performance_profile,
    probability_of_improvement,
    profile_bands,
    resample,
)


def test_aggregates_match_values_computed_by_hand():
    costs = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [100.0, 40.0]])
    assert mean(costs) == pytest.approx(206 / 8)
    # Sorted: 1 2 | 3 10 20 30 | 40 100; a quarter goes at each end.
    assert interquartile_mean(costs) == pytest.approx(63 / 4)
    np.testing.assert_allclose(performance_profile(costs, np.array([0.5, 2.0, 30.0, 100.0])), [0, 2 / 8, 6 / 8, 1])


def test_the_interquartile_mean_is_robust_to_a_collapse_and_a_lucky_training():
    costs = np.array([[0.36], [0.37], [0.38], [0.39]])
    broken = np.array([[-9.0], [0.37], [0.38], [9.0]])
    assert interquartile_mean(costs) == pytest.approx(interquartile_mean(broken)) == pytest.approx(0.375)
    assert abs(mean(broken) - 0.375) > 0.1


def test_probability_of_improvement_by_hand():
    ours, theirs = np.array([[1.0], [3.0]]), np.array([[2.0], [3.0], [4.0]])
    # 1 beats all three; 3 loses to 2, ties with 3, beats 4.
    assert probability_of_improvement(ours, theirs) == pytest.approx((3 + 1.5) / 6)
    assert probability_of_improvement(theirs, ours) == pytest.approx(1 - 4.5 / 6)
    statistic = stats.mannwhitneyu(ours[:, 0], theirs[:, 0], alternative="less").statistic
    assert probability_of_improvement(ours, theirs) == pytest.approx(1 - statistic / 6)


def test_points_have_equal_weight_and_are_compared_separately():
    ours, theirs = np.array([[1.0, 100.0], [2.0, 101.0]]), np.array([[3.0, 50.0], [4.0, 51.0]])
    assert probability_of_improvement(ours, theirs) == 0.5  # always on the first point, never on the second
    interval = aggregate(probability_of_improvement, ours, theirs)
    assert interval == (0.5, 0.5, 0.5)


def test_the_probability_between_equals_is_one_half():
    costs = np.random.default_rng(0).normal(size=(10, 5))
    assert probability_of_improvement(costs, costs) == pytest.approx(0.5)
    interval = aggregate(probability_of_improvement, costs, np.random.default_rng(1).normal(size=(10, 5)))
    assert interval.ci_low < 0.5 < interval.ci_high


def test_resampling_is_stratified():
    costs = np.arange(8.0)[:, None] + 100.0 * np.arange(3.0)
    drawn = resample(costs, 200)
    assert drawn.shape == (200, 8, 3)
    for point in range(3):
        assert set(np.unique(drawn[:, :, point])) == set(costs[:, point])
    assert (drawn[:, :, 0] != drawn[:, :, 1] - 100.0).any()  # each point draws its own seeds


def test_a_rule_is_one_run_without_variance():
    learner, rule = np.array([[0.3], [0.35], [0.5]]), np.array([[0.4]])
    assert aggregate(interquartile_mean, rule) == (0.4, 0.4, 0.4)
    interval = aggregate(probability_of_improvement, learner, rule)
    assert interval.mean == pytest.approx(2 / 3)
    assert interval.ci_low < interval.mean < interval.ci_high


@pytest.mark.parametrize(("statistic", "spread"), [(mean, 0.2), (interquartile_mean, 0.2)])
def test_intervals_cover_the_truth(statistic, spread):
    random = np.random.default_rng(2)
    points = np.array([0.9, 1.0, 1.1, 1.0])
    covered, trials = 0, 300
    for _ in range(trials):
        costs = points + spread * random.standard_normal((10, 4))  # symmetric: both statistics aim at 1
        interval = aggregate(statistic, costs, resamples=400)
        covered += interval.ci_low <= 1.0 <= interval.ci_high
    assert 0.88 <= covered / trials <= 0.985


def test_the_interval_of_a_probability_covers_it():
    random = np.random.default_rng(3)
    truth, covered, trials = stats.norm.cdf(0.5 / 2**0.5), 0, 300  # one deviation's half apart
    for _ in range(trials):
        ours, theirs = random.standard_normal((10, 4)), 0.5 + random.standard_normal((10, 4))
        interval = aggregate(probability_of_improvement, ours, theirs, resamples=400)
        covered += interval.ci_low <= truth <= interval.ci_high
    assert 0.88 <= covered / trials <= 0.985


def test_profiles_rise_from_0_to_1_within_their_bands():
    costs = np.random.default_rng(4).gamma(4.0, 0.25, (10, 6))
    levels = np.linspace(0.0, 5.0, 21)
    shares = np.array(profile_bands(costs, levels, resamples=300))
    assert shares.shape == (21, 3)
    assert (np.diff(shares[:, 0]) >= 0).all() and shares[0, 0] == 0 and shares[-1, 0] == 1
    assert (shares[:, 1] <= shares[:, 0]).all() and (shares[:, 0] <= shares[:, 2]).all()
