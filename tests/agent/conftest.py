"""Fixtures of the agent's tests."""

import pytest

from tests.support.journals import quick_disk  # noqa: F401


@pytest.fixture(autouse=True)
def long_timeouts(monkeypatch):
    """Timeouts that a busy machine does not exceed."""
    monkeypatch.setattr("edgebrush.clients.client.CONNECT_TIMEOUT_S", 60.0)
    monkeypatch.setattr("edgebrush.agent.stations.POLL_TIMEOUT_S", 60.0)
    monkeypatch.setattr("edgebrush.agent.agent.TIMEOUT_MARGIN_S", 60.0)
