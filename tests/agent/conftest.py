"""Fixtures of the agent's tests."""

import pytest


@pytest.fixture(autouse=True)
def long_timeouts(monkeypatch):
    """Timeouts that a busy machine does not exceed."""
    monkeypatch.setattr("edgebrush.agent.clients.CONNECT_TIMEOUT_S", 60.0)
    monkeypatch.setattr("edgebrush.agent.stations.POLL_TIMEOUT_S", 60.0)
    monkeypatch.setattr("edgebrush.agent.agent.TIMEOUT_MARGIN_S", 60.0)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Tests do not wait for the disk. Files are written and read as always, but a power cut may lose them."""
    for name in ("DURABLE", "RELAXED"):
        monkeypatch.setattr(f"edgebrush.agent.journal.database.{name}", "OFF")
