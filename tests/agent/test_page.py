"""The agent's metrics and its status page."""

import base64
import hashlib
import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from edgebrush.agent.app import create_app
from edgebrush.agent.page import add_status_page, format_rate, format_seconds
from tests.support.agents import LARGE, SMALL, PreferSlots, make_agent
from tests.support.browser import CHROMIUM, browser
from tests.support.fakes import FakeStation
from tests.support.serving import metric, serve_app, until

IMAGES = "/v1/images/generations"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of an agent that has made three images, two at small after large had failed, and rejected one prompt."""
    large, small = FakeStation(), FakeStation()
    large.status, large.reply = 500, {"error": {"message": "<script>alert(1)</script>"}}
    stations = {"large": large, "small": small}
    agent = make_agent(tmp_path_factory.mktemp("journal"), PreferSlots(LARGE, SMALL, 0), stations)
    with TestClient(create_app(agent)) as client:
        client.app.state.agent = agent
        for _ in range(2):
            assert client.post(IMAGES, json={"prompt": "circle"}).json()["served_by"] == "small"
        agent.policy.slots = (0,)
        assert client.post(IMAGES, json={"prompt": "circle"}, headers={"idempotency-key": "mine"}).status_code == 200
        small.status, small.reply = 422, {"error": {"message": "unknown class"}}
        large.status, large.reply = small.status, small.reply
        assert client.post(IMAGES, json={"prompt": "cat"}).status_code == 422
        yield client


def test_metrics_are_correct(client):
    assert metric(client, "edgebrush_ue_tasks_total", place="small", outcome="image") == 2
    assert metric(client, "edgebrush_ue_tasks_total", place="own", outcome="image") == 1
    assert metric(client, "edgebrush_ue_tasks_total", place="none", outcome="invalid") == 1
    assert metric(client, "edgebrush_ue_tasks_total") == 4
    assert metric(client, "edgebrush_ue_delay_seconds_count") == 3
    assert metric(client, "edgebrush_ue_attempts_total") >= 5
    assert metric(client, "edgebrush_ue_energy_joules_total", spender="bs") == pytest.approx(1.0)
    assert metric(client, "edgebrush_ue_energy_joules_total", spender="ue") > 0
    assert metric(client, "edgebrush_ue_station_available", station="small") == 1
    assert 0 < metric(client, "edgebrush_ue_battery_level") < 1
    assert metric(client, "edgebrush_ue_station_uplink_bytes_per_second", station="small") > 0
    assert metric(client, "edgebrush_ue_decision_steps_count", place="small") >= 2
    assert metric(client, "edgebrush_ue_decision_steps_sum", place="own") == 2
    assert metric(client, "edgebrush_ue_failovers_total", place="large", reason="failed") == 1
    assert metric(client, "edgebrush_ue_failovers_total", reason="invalid") == 1
    assert metric(client, "edgebrush_ue_journal_bytes") > 4096 < metric(client, "edgebrush_ue_journal_free_bytes")
    assert metric(client, "edgebrush_build_info") == 1 and metric(client, "process_resident_memory_bytes") > 1e6
    assert metric(client, "edgebrush_ue_journal_writable") == 1
    assert metric(client, "edgebrush_ue_running") == metric(client, "edgebrush_ue_own_waiting") == 0


def test_the_page_shows_places_counts_and_decisions(client):
    response = client.get("/")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.text))
    assert response.headers["content-type"].startswith("text/html")
    assert "ue 1 of testbed" in text and "policy prefer-slots" in text and "50%" in text
    assert "2 × image at small" in text and "1 × image at own" in text and "1 × invalid" in text
    assert "task mine-0; expected" in text and "best cost by place: own" in text
    assert "large , 2 steps, class 1: failed: large: status 500" in text and "image after" in text


def test_the_page_and_the_metrics_show_that_the_journal_cannot_be_written(client, monkeypatch):
    monkeypatch.setattr(client.app.state.agent.journal.writer, "problem", "No space left on device")
    assert "the journal cannot be written: No space left on device" in client.get("/").text
    assert metric(client, "edgebrush_ue_journal_writable") == 0


def test_the_page_escapes_what_comes_from_outside(client):
    page = client.get("/").text
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page


def test_the_page_loads_and_runs_nothing(client):
    response = client.get("/")
    policy = response.headers["content-security-policy"]
    style = re.search(r"<style>(.*?)</style>", response.text, re.DOTALL).group(1)
    assert f"style-src 'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"\s(src|href|style|on\w+)=", response.text)
    assert "width=device-width" in response.text


@pytest.mark.process
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_fits_on_a_phone_and_has_its_style(client):
    with serve_app(page_app(client)) as (_, url), browser() as page:
        page.resize(360, 740)
        page.open(url)
        until(lambda: page.value("document.querySelectorAll('li').length") > 5)
        assert page.value("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.value("getComputedStyle(document.querySelector('li')).borderTopWidth") == "1px"


def page_app(client):
    """The status page of a client's agent alone."""
    app = FastAPI()
    add_status_page(app, client.app.state.agent)
    return app


@pytest.mark.parametrize(
    ("value", "text"), [(12.3, "12.3 bit/s"), (4567, "4.57 kbit/s"), (2.5e6, "2.5 Mbit/s"), (3e9, "3 Gbit/s")]
)
def test_rates_have_a_suitable_unit(value, text):
    assert format_rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012, "0.012 s"),
        (9.9, "9.9 s"),
        (90, "90 s"),
        (600, "10 min"),
        (7200, "2 h"),
        (2e6, "23 d"),
        (float("inf"), "never"),
    ],
)
def test_durations_have_a_suitable_unit(value, text):
    assert format_seconds(value) == text
