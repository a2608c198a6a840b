"""The report page and figures: self-contained, complete, and the same when drawn again from the run folder."""

import json
import re

import pytest

from edgebrush.evaluation.run_folder import load_run, store_run, store_scenario
from edgebrush.report.rendering import console_table, render, render_again, table_rows
from edgebrush.report.text import headline


@pytest.fixture
def folder(run, tmp_path):
    """A run folder with its report."""
    store_scenario(run.scenario, tmp_path)
    render(run, tmp_path)
    store_run(run, tmp_path)
    return tmp_path


def test_the_report_loads_nothing_from_the_network(run, folder):
    page = (folder / "report.html").read_text()
    assert "http://" not in page and "https://" not in page
    assert not re.search(r"<(script|link|iframe)\b", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))
    text = re.sub(r"base64,[^\"]*", "", page)
    assert "{{" not in text and "nan" not in text.lower().split() and "{run" not in text
    assert all(name in page for name in run.ranking)


def test_the_report_is_drawn_again_from_the_folder(folder):
    before = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    (folder / "figures" / "delay.png").unlink()
    render_again(folder)
    again = (folder / "report.html").read_text()
    assert headline(load_run(folder)) in again
    assert again == before
    assert (folder / "figures" / "delay.png").is_file()


def test_a_policy_that_was_played_alone_has_a_report(make_run, tmp_path):
    run = make_run("random")
    render(run, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "random was played alone" in page and "Differences by group" not in page
    assert not (tmp_path / "figures" / "differences.png").exists()


def test_the_table_has_the_numbers_of_the_results(run):
    results = json.loads(json.dumps(run.results))["policies"]
    rows = {row.name: row for row in table_rows(run)}
    assert list(rows) == run.ranking and set(rows) == set(results)
    for name, row in rows.items():
        assert row.cost == f"{results[name]['cost']['mean']:.4f}"
        assert row.gap == "" if name == run.subject else row.gap.endswith("%")
    assert console_table(run).row_count == len(rows)
