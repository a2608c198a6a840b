"""PettingZoo's naming convention: ``scheduling_v0.env()`` and ``scheduling_v0.parallel_env()``.

>>> from edgebrush import scheduling_v0
>>> env = scheduling_v0.env("campus", render_mode="rgb_array")
>>> slotted = scheduling_v0.parallel_env("campus", interval_s=0.5)
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from edgebrush.errors import UserError, explain
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.schema import Decision, Scenario

from .aec import AecEnv
from .factory import make
from .slotted import SlottedEnv


def env(scenario: str | Path | Scenario = "campus", render_mode: str | None = None) -> AecEnv:
    """The agent-environment cycle of a scenario. Raises ``UserError`` as ``edgebrush.make``."""
    return make(scenario, "aec", render_mode=render_mode)


def parallel_env(
    scenario: str | Path | Scenario = "campus", interval_s: float | None = None, render_mode: str | None = None
) -> SlottedEnv:
    """The parallel interface of a scenario; ``interval_s`` replaces its slot length (None: the scenario's own).

    Raises ``UserError`` as ``edgebrush.make``.
    """
    loaded = scenario if isinstance(scenario, Scenario) else load_scenario(scenario)
    if interval_s is not None:
        fields = loaded.decision.model_dump() | {"interval_s": interval_s}
        try:
            decision = Decision.model_validate(fields)
        except ValidationError as error:
            raise UserError(explain(error, "")) from None
        loaded = loaded.model_copy(update={"decision": decision})
    return make(loaded, "parallel", render_mode=render_mode)


raw_env = env
