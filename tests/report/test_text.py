"""The report's sentences: they follow the numbers, name the rival, and are grammatical for one and for many."""

import json
from dataclasses import replace

import pytest

from edgebrush.evaluation.statistics import Interval
from edgebrush.report import description, text
from edgebrush.report.groups import LOAD, groups

BETTER, WORSE, LEVEL = Interval(-0.013, -0.015, -0.011), Interval(0.02, 0.01, 0.03), Interval(-0.001, -0.004, 0.002)


def with_gaps(run, gaps):
    """The run with other relative differences of its subject, by policy."""
    results = json.loads(json.dumps(run.results))
    for name, gap in gaps.items():
        results["policies"][run.subject]["less_than"][name]["relative"] = gap._asdict()
    return replace(run, results=results)


def every_sentence(run):
    parts = groups(run)
    return [
        text.headline(run),
        text.wins(run),
        text.cost_terms(run),
        *text.decisions(run),
        *text.differences(run, parts),
        text.side_effects(run),
        *description.scenario_summary(run.scenario, 0.9),
        description.method(run),
    ]


def test_the_headline_is_honest(run):
    assert "costs 1.3% less" in text.headline(with_gaps(run, {run.rival: BETTER}))
    assert "95% interval 1.1 to 1.5%" in text.headline(with_gaps(run, {run.rival: BETTER}))
    assert "does not win" in text.headline(with_gaps(run, {run.rival: WORSE}))
    assert "do not differ significantly" in text.headline(with_gaps(run, {run.rival: LEVEL}))


def test_nothing_is_significant_in_too_few_episodes(run):
    """The bootstrap's intervals of three blocks would exclude 0 by chance."""
    few = with_gaps(run, {name: BETTER for name in run.ranking[1:]})
    few = replace(few, results=few.results | {"episodes": 3})
    assert "cannot be told apart by 3 episodes: the difference in cost is −1.3%." in text.headline(few)
    assert text.wins(few) == ""


@pytest.mark.parametrize(
    ("gaps", "sentence"),
    [
        ([BETTER], "The other policy costs significantly more (95% intervals)."),
        ([BETTER, BETTER], "Both other policies cost significantly more (95% intervals)."),
        ([BETTER, LEVEL], "1 of 2 other policies costs significantly more (95% intervals)."),
        ([BETTER, BETTER, LEVEL], "2 of 3 other policies cost significantly more (95% intervals)."),
        ([LEVEL, WORSE], ""),
    ],
)
def test_wins_are_counted(make_run, gaps, sentence):
    run = make_run(*("priced-greedy", "random", "local-only", "nearest-bs")[: 1 + len(gaps)])
    others = run.results["policies"][run.subject]["less_than"]
    assert text.wins(with_gaps(run, dict(zip(others, gaps, strict=True)))) == sentence


@pytest.mark.parametrize("gap", [BETTER, WORSE])
def test_the_sentence_about_groups_that_cost_more_names_the_rival(run, gap):
    parts = [group._replace(gap=gap) for group in groups(run)]
    sentence = text.differences(run, parts)[-1]
    assert sentence.endswith(f"more than under {run.rival}.") == (gap == BETTER)
    assert f"under {run.rival}" in sentence
    named = [group.name for group in parts if group.dimension != LOAD and f"“{group.name}”" in sentence]
    assert len(named) == (0 if gap == BETTER else sum(group.dimension != LOAD for group in parts))


def test_every_placeholder_is_filled(run, make_run):
    for each in (run, make_run("random")):
        for sentence in every_sentence(each):
            assert "{" not in sentence and "None" not in sentence and "nan" not in sentence, sentence


def test_groups_add_up_to_the_difference(run):
    for dimension in {group.dimension for group in groups(run)}:
        parts = [group for group in groups(run) if group.dimension == dimension]
        assert sum(group.share for group in parts) == pytest.approx(1.0)
        gap = run.results["policies"][run.subject]["less_than"][run.rival]["cost"]["mean"]
        assert sum(group.contribution for group in parts) == pytest.approx(gap)


@pytest.mark.parametrize(
    ("interval_s", "sentence"),
    [
        (1.0, "A UE knows the base stations' load from their broadcasts every 1 s."),
        (0.0, "A UE knows the base stations' load at any time."),
        (float("inf"), "A UE does not know the base stations' load."),
    ],
)
def test_the_scenario_says_what_a_ue_knows(tiny, interval_s, sentence):
    scenario = tiny.model_copy(update={"broadcast_interval_s": interval_s})
    assert any(each.endswith(sentence) for each in description.scenario_summary(scenario, 1.0))
