"""Intervals from a few blocks are not called significant and colour nothing; values that differ look different."""

import json
from dataclasses import replace

import pytest

from edgebrush.evaluation.statistics import MIN_EPISODES, Interval, verdict
from edgebrush.plotting import GREEN, GREY
from edgebrush.report import text
from edgebrush.report.caution import caution, count_episodes
from edgebrush.report.figures import differences
from edgebrush.report.groups import groups
from edgebrush.report.rendering import distinct, page

CLEAR = {"mean": -0.055, "ci_low": -1.0, "ci_high": -0.055}


def with_episodes(run, number, testbed=False):
    """The run as if it had so many blocks, with clear differences."""
    results = json.loads(json.dumps(run.results)) | {"episodes": number, "horizon_s": 10.0}
    for gaps in results["policies"][run.subject]["less_than"].values():
        gaps["relative"] = CLEAR
    if testbed:
        rounds = {"a": {"asked": 9, "images": 9, "errors": 0, "lost": 0}}
        results["testbed"] = {"rounds": rounds, "seconds": 30.0, "warnings": ["the machine was too busy: <load> 9"]}
    return replace(run, results=results)


@pytest.mark.parametrize(("number", "found"), [(1, "level"), (MIN_EPISODES - 1, "level"), (MIN_EPISODES, "better")])
def test_a_few_blocks_show_nothing_to_be_significant(run, number, found):
    few = with_episodes(run, number)
    assert verdict(CLEAR, number) == found and bool(caution(few)) == (found == "level")
    colours = {bar.get_color() for bar in differences(few).axes[0].get_lines() if bar.get_marker() == "o"}
    assert colours == {GREEN if found == "better" else GREY}
    assert bool(text.wins(few)) == (found == "better")


def test_the_report_says_that_there_are_too_few_blocks(run):
    few = with_episodes(run, 3, testbed=True)
    html = page(few, {})
    assert "cannot be told apart by 3 blocks of 10 s of arrivals" in text.headline(few)
    assert "this run has only 3 blocks of 10 s of arrivals" in html
    policies, _, _ = html.partition("Differences by group")
    assert 'class="better"' not in policies and 'class="worse"' not in policies and "significantly more (" not in html
    enough = page(with_episodes(run, 30), {})
    assert 'class="better"' in enough and "this run has only" not in enough


def test_a_group_that_occurs_in_a_few_blocks_is_not_significant(run):
    group = groups(run)[0]._replace(gap=Interval(0.2, 0.1, 0.3))
    for episodes, named in ((MIN_EPISODES - 1, False), (MIN_EPISODES, True)):
        sentence = text.differences(run, [group._replace(episodes=episodes)])[-1]
        assert (f"“{group.name}” (+20.0% [+10.0%, +30.0%])" in sentence) == named
    assert text.group_interval(group._replace(episodes=1)) == "in one block"


def test_a_busy_machine_is_named_in_the_report(run):
    assert "Warning: the machine was too busy: &lt;load&gt; 9." in page(with_episodes(run, 30, testbed=True), {})


def test_blocks_are_counted_in_words(run):
    assert (
        count_episodes(with_episodes(run, 1)) == "1 episode" and count_episodes(with_episodes(run, 2)) == "2 episodes"
    )
    assert count_episodes(with_episodes(run, 1, testbed=True)) == "1 block of 10 s of arrivals"


@pytest.mark.parametrize(
    ("values", "decimals", "shown"),
    [
        ([0.1, 0.2], 1, ["0.1 J", "0.2 J"]),
        ([0.0512, 0.0823], None, ["0.0512 J", "0.0823 J"]),
        ([0.05121, 0.05123], None, ["0.05121 J", "0.05123 J"]),
        ([0.0, 12.3], None, ["0.0 J", "12.3 J"]),
        ([0.124, 0.131], 1, ["0.12 J", "0.13 J"]),
        ([0.12341, 0.12349], 1, ["0.1234 J", "0.1235 J"]),
        ([0.1, 0.1], 1, ["0.1 J", "0.1 J"]),
        ([0.1, 0.100000001], 1, ["0.1 J", "0.1 J"]),
        ([0.16], 1, ["0.2 J"]),
    ],
)
def test_values_that_differ_look_different(values, decimals, shown):
    assert distinct(values, decimals, " J") == shown
