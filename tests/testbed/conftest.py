"""What all tests of the runtime share."""

import pytest


@pytest.fixture(autouse=True)
def patient_agents(monkeypatch):
    """Agents that a busy machine does not take for one whose BSs are away."""
    monkeypatch.setattr("edgebrush.agent.clients.CONNECT_TIMEOUT_S", 60.0)
    monkeypatch.setattr("edgebrush.agent.stations.POLL_TIMEOUT_S", 60.0)
    monkeypatch.setattr("edgebrush.agent.agent.TIMEOUT_MARGIN_S", 60.0)
