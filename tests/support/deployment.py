"""What the tests of deploy/ read: its files, command lines of edgebrush, and the metrics that queries name."""

import json
import re
from pathlib import Path

import typer
import yaml
from fastapi.testclient import TestClient

from edgebrush.agent.app import create_app
from edgebrush.cli.main import app
from tests.support.agents import LARGE, PreferSlots, make_agent
from tests.support.fakes import FakeStation
from tests.support.serving import CIRCLE, IMAGES, in_memory, make_station

DEPLOY = Path(__file__).parents[2] / "deploy"
RULE_FILES = [DEPLOY / "prometheus" / name for name in ("recording.yml", "alerts.yml")]
COMMANDS = typer.main.get_command(app).commands

STRING = re.compile(r'"[^"]*"')
SELECTOR = re.compile(r"\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
LABEL_LIST = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
RANGE = re.compile(r"\[[^\]]*\]")
NAME = re.compile(r"(?<![\w.])[a-zA-Z_:][\w:]*(?!\w*\s*\()")
KEYWORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}


def read_yaml(name):
    """The documents in a YAML file of deploy/."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def parse_command(arguments):
    """The options of a command line of edgebrush, by parameter. Raises click's usage error where there is no such."""
    verb, *rest = arguments
    with COMMANDS[verb].make_context(verb, rest) as context:
        return context.params


def rules():
    """All recording rules and alerts."""
    files = [yaml.safe_load(path.read_text()) for path in RULE_FILES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def dashboard():
    return json.loads((DEPLOY / "grafana" / "edgebrush.json").read_text())


def panels():
    """The dashboard's panels that query."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def dashboard_queries():
    """(title, expression) of the dashboard, with Grafana's variables replaced: all agents and stations, one minute."""
    variables = {"$__rate_interval": "1m", "$agent": ".*", "$station": ".*"}
    found = []
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in variables.items():
                expression = expression.replace(name, value)
            found.append((panel["title"], expression))
    return found


def metrics_in(expression):
    """The names of the metrics in a query."""
    text = expression
    for pattern in (STRING, SELECTOR, LABEL_LIST, RANGE):
        text = pattern.sub(" ", text)
    return {name for name in NAME.findall(text) if name not in KEYWORDS}


def matchers_in(expression):
    """(metric, label, value) of all matchers in a query; a value per alternative of a regular expression."""
    found = []
    for metric, selector in re.findall(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}", expression):
        for label, operator, value in MATCHER.findall(selector):
            values = value.split("|") if operator in ("=~", "!~") else [value]
            found += [(metric, label, each) for each in values]
    return found


def grouping_labels_in(expression):
    """The labels of all groupings (by, ignoring and so on) in a query."""
    return {label.strip() for group in LABEL_LIST.findall(expression) for label in group.split(",") if label.strip()}


def metrics_pages(folder):
    """The page /metrics of a station and of an agent, after an image each."""
    with in_memory(make_station()) as client:
        assert client.post(IMAGES, json=CIRCLE).status_code == 200
        station = client.get("/metrics").text
    agent = make_agent(folder, PreferSlots(LARGE), {"large": FakeStation(), "small": FakeStation()})
    with TestClient(create_app(agent)) as client:
        assert client.post(IMAGES, json={"prompt": "circle"}).status_code == 200
        return {"station": station, "agent": client.get("/metrics").text}
