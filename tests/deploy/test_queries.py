"""Every metric, label and value that rules and the dashboard name is in the /metrics of a station or an agent."""

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.deployment import (
    DEPLOY,
    dashboard,
    dashboard_queries,
    grouping_labels_in,
    matchers_in,
    metrics_in,
    metrics_pages,
    panels,
    read_yaml,
    rules,
)

LABEL_IN_TEXT = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")
(CONFIG,) = read_yaml("prometheus/prometheus.yml")
ROLES = {"station": "edgebrush-stations", "agent": "edgebrush-agents"}  # and their scrape jobs


def target_labels(job_name):
    """The labels that Prometheus adds to the series of a job."""
    (job,) = [each for each in CONFIG["scrape_configs"] if each["job_name"] == job_name]
    return {"job", "instance", *(label for each in job["static_configs"] for label in each.get("labels", {}))}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """For each series of Prometheus, recorded ones included, the values of its labels; None: any value."""
    found = {"up": {"job": set(ROLES.values()), "instance": None, "station": None}}
    for role, page in metrics_pages(tmp_path_factory.mktemp("journal")).items():
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                labels = found.setdefault(sample.name, {})
                labels.update(dict.fromkeys(target_labels(ROLES[role])))
                labels["job"] = {*(labels["job"] or ()), ROLES[role]}
                for label, value in sample.labels.items():
                    labels.setdefault(label, set()).add(value)
    for rule in rules():
        if "record" in rule:
            found[rule["record"]] = recorded_labels(rule["expr"], found)
    return found


def recorded_labels(expression, found):
    """Those of a recorded series: of its grouping, else of its metrics."""
    if "sum" in expression:
        return dict.fromkeys(grouping_labels_in(expression) - {"le"})
    return {label: None for metric in metrics_in(expression) for label in found[metric]}


QUERIES = [*dashboard_queries(), *((rule.get("record") or rule["alert"], rule["expr"]) for rule in rules())]


@pytest.mark.parametrize(("title", "expression"), QUERIES, ids=lambda each: each if len(each) < 60 else "")
def test_queries_name_metrics_labels_and_values_that_exist(known, title, expression):
    metrics = metrics_in(expression)
    assert metrics and not metrics - set(known)
    labels = {label for metric in metrics for label in known[metric]}
    assert not grouping_labels_in(expression) - labels
    for metric, label, value in matchers_in(expression):
        values = known[metric][label]
        assert values is None or any(re.fullmatch(value, each) for each in values), (metric, label, value)


def test_legends_and_annotations_name_labels_that_exist(known):
    texts = [(target["legendFormat"], target["expr"]) for panel in panels() for target in panel["targets"]] + [
        (text, rule["expr"]) for rule in rules() if "alert" in rule for text in rule["annotations"].values()
    ]
    for text, expression in texts:
        labels = {label for metric in metrics_in(expression) for label in known[metric]}
        assert not set(LABEL_IN_TEXT.findall(text)) - labels, text


def test_every_metric_is_used_or_described(known):
    """docs/operation.md has a table of all of them."""
    described = (DEPLOY.parent / "docs" / "operation.md").read_text()
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in known if name.startswith("edgebrush")}
    assert not {name for name in families if name not in described}


def test_the_parser_of_queries_finds_all_names():
    expression = """sum by (a, le) (rate(x_total{b!~"c|d", e="f"}[5m])) / ignoring (a) group_left count(y:z{}) > 0.5
      and predict_linear(w[6h], 24 * 3600) < 1e3 or up"""
    assert metrics_in(expression) == {"x_total", "y:z", "w", "up"}
    assert grouping_labels_in(expression) == {"a", "le"}
    assert matchers_in(expression) == [("x_total", "b", "c"), ("x_total", "b", "d"), ("x_total", "e", "f")]


def test_panels_have_titles_descriptions_units_and_places_of_their_own():
    assert len({panel["title"] for panel in panels()}) == len(panels()) == len({panel["id"] for panel in panels()})
    for panel in panels():
        assert panel["description"].endswith(".") and panel["fieldConfig"]["defaults"]["unit"]
    cells = [
        (x, y)
        for panel in dashboard()["panels"]
        for grid in [panel["gridPos"]]
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    names = {each["name"] for each in dashboard()["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]+)\b", json.dumps(panels()))) == names


def test_alerts_say_how_bad_it_is_and_what_it_means():
    described = (DEPLOY.parent / "docs" / "operation.md").read_text()
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning") and rule["for"]
            assert set(rule["annotations"]) == {"summary", "description"}
            assert f"`{rule['alert']}`" in described
