"""Digests, bootstrap intervals and metrics, against plain computations and known distributions."""

import numpy as np
import pytest

from edgebrush.evaluation.episodes import play
from edgebrush.evaluation.statistics import (
    COST_TERMS,
    DELAY_EDGES_S,
    LOAD_WINDOW_S,
    METRICS,
    Bootstrap,
    digest,
    jain,
    join,
    load_edges,
    percentile_s,
    recent_arrivals,
    summary,
)
from edgebrush.sim.episode_seeds import HELD_OUT_SEEDS

SEEDS = HELD_OUT_SEEDS + np.arange(12)


def column(kept, metric):
    return kept.by_request[:, :, METRICS.index(metric)].sum()


def test_jain_of_known_vectors():
    assert jain([2.0, 2.0, 2.0]) == pytest.approx(1.0)
    assert jain([5.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain([1.0, 2.0, 3.0]) == pytest.approx(36.0 / 42.0)
    assert jain([0.0, 0.0]) == 1.0


def test_mean_is_a_ratio_of_sums():
    cost, tasks = np.array([1.0, 9.0]), np.array([1.0, 3.0])
    assert Bootstrap(2).ratio(cost, tasks).mean == pytest.approx(2.5)  # not (1 + 3) / 2


def test_intervals_cover_the_true_ratio():
    random = np.random.default_rng(3)
    truth, covered, trials = 0.7, 0, 300
    for trial in range(trials):
        tasks = random.poisson(40, 80) + 1.0
        # Episodes differ by more than their tasks do, as bursts make them: whole episodes are resampled.
        cost = truth * tasks * random.gamma(4.0, 0.25, 80)
        interval = Bootstrap(80, resamples=400, seed=trial).ratio(cost, tasks)
        covered += interval.ci_low <= truth <= interval.ci_high
    assert 0.89 <= covered / trials <= 0.985


def test_paired_differences_are_tight():
    random = np.random.default_rng(4)
    sums = np.zeros((100, len(METRICS)))
    sums[:, METRICS.index("tasks")] = 50.0
    cost = random.gamma(4.0, 5.0, 100)
    ours, theirs = sums.copy(), sums.copy()
    ours[:, METRICS.index("cost")] = cost
    theirs[:, METRICS.index("cost")] = cost + random.normal(1.0, 0.1, 100)
    bootstrap = Bootstrap(100)
    alone, gap = bootstrap.metric(ours, "cost"), bootstrap.difference(ours, theirs)
    assert gap.mean == pytest.approx(-0.02, rel=0.1)
    assert gap.ci_low < gap.mean < gap.ci_high < 0
    assert gap.ci_high - gap.ci_low < 0.02 * (alone.ci_high - alone.ci_low)
    relative = bootstrap.difference(ours, theirs, relative=True)
    assert relative.mean == pytest.approx(cost.mean() / theirs[:, METRICS.index("cost")].mean() - 1.0)


def test_resamples_without_tasks_of_a_group_are_left_out():
    """A group that occurs in one block of three: the difference there is exact, and not −100% in a third of them."""
    ours, theirs = np.zeros((3, len(METRICS))), np.zeros((3, len(METRICS)))
    ours[1, METRICS.index("tasks")] = theirs[1, METRICS.index("tasks")] = 4.0
    ours[1, METRICS.index("cost")], theirs[1, METRICS.index("cost")] = 3.0, 4.0
    assert Bootstrap(3).difference(ours, theirs, relative=True) == pytest.approx((-0.25, -0.25, -0.25))
    assert Bootstrap(3).difference(ours, theirs) == pytest.approx((-0.25, -0.25, -0.25))
    assert Bootstrap(3).metric(np.zeros((3, len(METRICS))), "cost") == (0.0, 0.0, 0.0)


def test_percentiles_of_binned_delays():
    delays = np.random.default_rng(5).lognormal(0.5, 1.0, 100_000)
    counts, _ = np.histogram(delays, DELAY_EDGES_S)
    for share in (0.5, 0.95, 0.99):
        assert percentile_s(counts, share) == pytest.approx(np.quantile(delays, share), rel=2e-3)


def test_recent_arrivals_match_a_plain_count(tiny, rule):
    outcomes = play(tiny, rule(tiny, "random"), SEEDS[:3])
    for row, seen in zip(outcomes, recent_arrivals(outcomes), strict=True):
        earlier_s = row["arrival_s"] - outcomes["arrival_s"]
        near = (earlier_s > 0) & (earlier_s <= LOAD_WINDOW_S)
        assert seen == (near & (outcomes["episode"] == row["episode"])).sum()


def test_a_digest_has_the_sums_of_the_tasks(tiny, rule):
    outcomes = play(tiny, rule(tiny, "selfish-greedy"), SEEDS)
    kept = digest(tiny, outcomes, len(SEEDS), load_edges(outcomes))
    assert column(kept, "tasks") == len(outcomes)
    for metric in ("cost", *COST_TERMS, "energy_ue_j", "energy_bs_j", "quality", "refused", "lost"):
        assert column(kept, metric) == pytest.approx(outcomes[metric].sum(dtype=float), abs=1e-9)
    assert sum(column(kept, term) for term in COST_TERMS) == pytest.approx(column(kept, "cost"))
    weight = np.array([kind.quality_weight for kind in tiny.requests])[outcomes["request"]]
    utility = weight.sum() - column(kept, "quality_cost") - column(kept, "delay_cost") - column(kept, "energy_cost")
    assert column(kept, "utility") == pytest.approx(utility)
    for groups in (kept.by_content, kept.by_ue_class, kept.by_load):
        np.testing.assert_allclose(groups.sum(1), kept.by_request.sum(1), rtol=1e-9, atol=1e-9)
    assert kept.choices.sum() == len(outcomes)
    assert kept.by_ue[:, 0].sum() == pytest.approx(outcomes["cost"].sum())
    per_episode = [outcomes["cost"][outcomes["episode"] == e].sum() for e in range(len(SEEDS))]
    np.testing.assert_allclose(kept.total("cost"), per_episode)


def test_parts_join_and_seeds_add(tiny, rule):
    outcomes = play(tiny, rule(tiny, "random"), SEEDS)
    edges = load_edges(outcomes)
    complete = digest(tiny, outcomes, len(SEEDS), edges)
    halves = [play(tiny, rule(tiny, "random"), SEEDS[part]) for part in (slice(0, 6), slice(6, 12))]
    joined = join([digest(tiny, half, 6, edges) for half in halves])
    np.testing.assert_allclose(joined.by_load, complete.by_load)
    np.testing.assert_array_equal(joined.choices, complete.choices)
    other = digest(tiny, play(tiny, rule(tiny, "nearest-bs"), SEEDS), len(SEEDS), edges)
    bootstrap = Bootstrap(len(SEEDS))
    apart = [summary(kept, bootstrap)["cost"]["mean"] for kept in (complete, other)]
    assert summary(complete + other, bootstrap)["cost"]["mean"] == pytest.approx(np.mean(apart))


def test_cost_with_bs_energy_is_that_of_omega_1(tiny, rule):
    """The same decisions simulated with the BSs' energy counted; nearest-bs decides alike in both."""
    counted = tiny.model_copy(update={"cost": tiny.cost.model_copy(update={"bs_energy_weight": 1.0})})
    free, full = (play(scenario, rule(tiny, "nearest-bs"), SEEDS) for scenario in (tiny, counted))
    kept = digest(tiny, free, len(SEEDS), load_edges(free))
    assert column(kept, "cost_with_bs_energy") == pytest.approx(full["cost"].sum())
    assert column(kept, "cost") < column(kept, "cost_with_bs_energy")
