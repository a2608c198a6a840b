"""Cache keys: hashes of everything that a job's result depends on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from edgebrush.profiles.catalogue import load_profile
from edgebrush.scenario.schema import Scenario, TraceArrivals

FORMAT = 3  # increase it when the same settings mean a different training or evaluation


def cache_key(*parts: Any) -> str:
    """A short hash of JSON content."""
    return hashlib.sha256(json.dumps([FORMAT, *parts], sort_keys=True).encode()).hexdigest()[:20]


def contents_key(scenario: Scenario) -> str:
    """A hash of a scenario's fields and of the contents of its profiles and its trace.

    ``edgebrush.scenario.load.fields_hash`` covers the fields alone.
    """
    names = [ue.profile for ue in scenario.ues] + [bs.profile for bs in scenario.bss]
    profiles = [load_profile(name, scenario.directory).model_dump_json() for name in names]
    content = [scenario.model_dump_json(), *profiles]
    if isinstance(scenario.arrivals, TraceArrivals):
        content.append((scenario.directory / scenario.arrivals.file).read_text(encoding="utf-8"))
    return cache_key(*content)
