"""A real Prometheus: promtool accepts rules and metrics, and every query finds what two stations and an agent did."""

import json
import math
import shutil
import subprocess
import time
from contextlib import contextmanager

import httpx2
import pytest
import yaml

from tests.support.deployment import DEPLOY, RULE_FILES, dashboard_queries, metrics_pages, rules
from tests.support.processes import edgebrush_process, free_port
from tests.support.serving import IMAGES
from tests.support.serving import until as until_seconds

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        not (shutil.which("promtool") and shutil.which("prometheus")),
        reason="needs promtool and prometheus (the package prometheus of Debian and Ubuntu)",
    ),
]
JSON_LOGS = ("--log-format", "json", "--log-level", "info")
INTERVAL, INTERVAL_S = "500ms", 0.5
PATIENCE_S = 60.0  # on a busy machine
IMAGES_MADE = 6


def until(condition):
    until_seconds(condition, PATIENCE_S)


def promtool(*arguments, **options):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, **options)
    return done.returncode, done.stdout + done.stderr


def test_promtool_accepts_configuration_and_rules():
    code, output = promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    assert code == 0, output
    code, output = promtool("check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES)
    assert code == 0, output


def test_alerts_fire_when_they_should():
    code, output = promtool("test", "rules", "rules.yml", cwd=DEPLOY.parent / "tests" / "deploy")
    assert code == 0, output


def test_promtool_accepts_the_metrics_of_stations_and_agents(tmp_path):
    for page in metrics_pages(tmp_path).values():
        code, output = promtool("check", "metrics", input=page)
        assert code == 0, output


@contextmanager
def prometheus(folder, stations, agent):
    """The shipped configuration and rules, but with other targets and a short interval; yields a client of its API."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {
        "scrape_interval": f"{INTERVAL_S * 1e3:.0f}ms",
        "evaluation_interval": f"{INTERVAL_S * 1e3:.0f}ms",
    }
    config["rule_files"] = [str(path) for path in RULE_FILES]
    addresses = {f"{name}:8000": url.removeprefix("http://") for name, url in stations.items()}
    addresses["agent:8100"] = agent.removeprefix("http://")
    for job in config["scrape_configs"]:
        for group in job["static_configs"]:
            group["targets"] = [addresses[target] for target in group["targets"]]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with open(folder / "log", "w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
                until(lambda: is_ready(client))
                yield client
        finally:
            process.kill()


def is_ready(client):
    try:
        return client.get("/-/ready").status_code == 200
    except httpx2.TransportError:
        return False


def query(client, expression):
    """The values of a query's series, without those that are no number."""
    reply = client.get("/api/v1/query", params={"query": expression}).json()
    assert reply["status"] == "success", reply
    values = [float(series["value"][1]) for series in reply["data"]["result"]]
    return [value for value in values if not math.isnan(value)]


def test_every_query_finds_what_stations_and_an_agent_did(tmp_path):
    """Also: every line of the processes' logs is a JSON object, and those of the tasks have their fields."""
    station = ("serve", "--port", "0", "--model", "light", *JSON_LOGS)
    with (
        edgebrush_process(*station, "--name", "large") as (large, large_url),
        edgebrush_process(*station, "--name", "small") as (small, small_url),
        edgebrush_process(
            *("ue", "testbed", "--port", "0", "--policy", "nearest-bs", "--journal", str(tmp_path / "journal")),
            *("--station", f"large={large_url}", "--station", f"small={small_url}", *JSON_LOGS),
        ) as (agent, agent_url),
        prometheus(tmp_path, {"large": large_url, "small": small_url}, agent_url) as client,
    ):
        until(lambda: query(client, "sum(up)") == [3] and query(client, "sum(edgebrush_ue_tasks_total)") == [0])
        for number in range(IMAGES_MADE):
            reply = httpx2.post(agent_url + IMAGES, json={"prompt": "sneaker", "seed": number}, timeout=30)
            assert reply.status_code == 200
        assert httpx2.post(agent_url + IMAGES, json={"prompt": "cat"}, timeout=30).status_code == 422
        httpx2.post(small_url + IMAGES, json={"prompt": "bag", "num_inference_steps": 1}, timeout=30)
        until(lambda: query(client, "sum(edgebrush_ue_tasks_total)") == [IMAGES_MADE + 1])
        until(lambda: query(client, "edgebrush_ue_delay_seconds:p95_rate5m"))
        time.sleep(2 * INTERVAL_S)
        empty = [title for title, expression in dashboard_queries() if not query(client, expression)]
        assert not empty
        empty = [rule["record"] for rule in rules() if "record" in rule and not query(client, rule["record"])]
        assert not empty
        assert sum(query(client, "place:edgebrush_ue_decisions:share_rate5m")) == pytest.approx(1)
        groups = client.get("/api/v1/rules").json()["data"]["groups"]
        states = [(rule["name"], rule["health"], rule.get("lastError")) for group in groups for rule in group["rules"]]
        assert len(states) == len(rules()) and all(health == "ok" for _, health, _ in states), states
        logs = {name: log_of(process) for name, process in {"large": large, "small": small, "agent": agent}.items()}
    ended = [record for record in logs["agent"] if record.get("status") == "image"]
    assert len(ended) == IMAGES_MADE and all(record["task"] and record["place"] for record in ended)
    assert any(record["station"] == "small" and record["status"] == "image" for record in logs["small"])


def log_of(process):
    """The records that a process has logged, after its end."""
    process.terminate()
    return [json.loads(line) for line in process.stdout]
