"""Builds an agent from a scenario, a policy, addresses of BSs and the model of the own device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgebrush.diffusion.backend import Backend
from edgebrush.diffusion.onnx import load_model
from edgebrush.diffusion.pacing import PacedBackend
from edgebrush.errors import UserError
from edgebrush.journal import KEEP_DAYS, KEEP_TASKS
from edgebrush.journal.journal import Journal
from edgebrush.policies.load import load_policy
from edgebrush.scenario.expand import expand_ues
from edgebrush.scenario.schema import Scenario

from .agent import Agent
from .device import Device
from .endpoints import build_stations
from .observer import Observer


def build_agent(
    scenario: Scenario,
    ue: int,
    policy: str,
    urls: Mapping[str, str],
    journal: Path,
    *,
    ca_file: Path | None = None,
    token_env: str | None = None,
    backend: Backend | None = None,
    paced: bool = False,
    battery_level: float | None = None,
    keep_tasks: int = KEEP_TASKS,
    keep_days: float = KEEP_DAYS,
) -> Agent:
    """The agent of UE number ``ue`` (from 1) of a scenario; ``urls`` maps names of BSs to their addresses.

    See ``build_stations`` for ``ca_file`` and ``token_env``. The journal is in the folder ``journal``, with the newest
    ``keep_tasks`` ended tasks of the last ``keep_days``. ``policy`` is a rule's name or a trained policy's folder.
    ``backend`` is the own device's model, by default the shipped light one. With ``paced``, the device is as slow as
    the scenario specifies. Raises ``UserError`` where an argument cannot be used.
    """
    if not 1 <= ue <= scenario.ue_count:
        raise UserError(f"ue = {ue}: {scenario.name} has UEs 1 to {scenario.ue_count}")
    kind, profile = expand_ues(scenario)[ue - 1]
    level = sum(kind.battery_level) / 2 if battery_level is None else battery_level
    observer = Observer(scenario, ue - 1, level)
    loaded_policy = load_policy(policy, scenario)
    stations = build_stations(observer, urls, ca_file=ca_file, token_env=token_env)
    own = backend or load_model("light")
    paced_backend = PacedBackend(own, profile.compute, kind.speed if paced else None, lambda seconds: None)
    classes = observer.layout.action_space.classes
    device = Device(paced_backend, observer.step_grid[-1], kind.queue_limit, *observer.own_parts_s, classes)
    return Agent(observer, loaded_policy, stations, device, Journal(journal, keep_tasks, keep_days))
