"""What all tests of the runtime share."""

import pytest


@pytest.fixture(autouse=True)
def patient_agents(monkeypatch):
    """Agents that a busy machine does not take for one whose BSs are away."""
    monkeypatch.setattr("edgebrush.runtime.remote.CONNECT_S", 60.0)
    monkeypatch.setattr("edgebrush.runtime.remote.POLL_S", 60.0)
    monkeypatch.setattr("edgebrush.runtime.agent.PATIENCE_S", 60.0)
