"""Cache keys: a hash of everything that a job's result depends on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from edgebrush.profiles.catalogue import load_profile
from edgebrush.scenario.schema import Scenario, TraceArrivals

FORMAT = 2  # to be raised when the same settings come to mean another training or evaluation


def hash_of(*parts: Any) -> str:
    """A name for content that JSON can hold."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True).encode()).hexdigest()[:20]


def world_of(scenario: Scenario) -> str:
    """What tells one world from another: the scenario, and what the files hold that it refers to."""
    names = [ue.profile for ue in scenario.ues] + [bs.profile for bs in scenario.bss]
    profiles = [load_profile(name, scenario.directory).model_dump_json() for name in names]
    content = [scenario.model_dump_json(), *profiles]
    if isinstance(scenario.arrivals, TraceArrivals):
        content.append((scenario.directory / scenario.arrivals.file).read_text(encoding="utf-8"))
    return hash_of(*content)
