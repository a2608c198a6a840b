"""``make`` builds the environment of a scenario; ``make_single`` and ``make_vector`` are Gymnasium's entry points."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, overload

from edgebrush.errors import UserError
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.schema import Scenario

from .aec import AecEnv
from .merged import MergedEnv, MergedVectorEnv
from .slotted import SlottedEnv


@overload
def make(
    scenario: str | Path | Scenario = ..., kind: Literal["aec"] = ..., *, render_mode: str | None = ...
) -> AecEnv: ...
@overload
def make(
    scenario: str | Path | Scenario, kind: Literal["parallel"], *, render_mode: str | None = ...
) -> SlottedEnv: ...
@overload
def make(scenario: str | Path | Scenario, kind: Literal["single"], *, render_mode: str | None = ...) -> MergedEnv: ...
@overload
def make(
    scenario: str | Path | Scenario, kind: Literal["vector"], *, episodes: int = ..., render_mode: str | None = ...
) -> MergedVectorEnv: ...
def make(scenario="campus", kind="aec", *, episodes=64, render_mode=None):
    """The environment of a scenario, behind one of the standard interfaces.

    ``scenario`` is a preset's name, a YAML file or a ``Scenario``. ``kind`` is one of

    - ``"aec"``: ``AecEnv``, PettingZoo's agent-environment cycle; needs ``decision.interval_s = 0``.
    - ``"parallel"``: ``SlottedEnv``, PettingZoo's parallel interface; needs ``decision.interval_s > 0``.
    - ``"single"``: ``MergedEnv``, a Gymnasium environment: the team as one agent.
    - ``"vector"``: ``MergedVectorEnv``, the same for many ``episodes`` at once, by far the fastest.

    Only ``"vector"`` uses ``episodes``. With ``render_mode="rgb_array"``, ``render()`` returns a picture of the world.

    Raises ``UserError`` where the scenario cannot be used, or not with this interface.

    >>> env = edgebrush.make("campus", kind="vector", episodes=64)
    >>> observations, infos = env.reset(seed=0)  # (64, size) float32, infos["action_mask"] (64, actions)
    """
    if not isinstance(scenario, Scenario):
        scenario = load_scenario(scenario)
    if kind == "aec":
        return AecEnv(scenario, render_mode)
    if kind == "parallel":
        return SlottedEnv(scenario, render_mode)
    if kind == "single":
        return MergedEnv(scenario, render_mode)
    if kind == "vector":
        return MergedVectorEnv(scenario, episodes, render_mode)
    raise UserError(f"kind = {kind!r}: no such interface; use 'aec', 'parallel', 'single' or 'vector'")


def make_single(scenario: str | Path | Scenario, render_mode: str | None = None) -> MergedEnv:
    """What ``gymnasium.make("edgebrush/Campus-v0")`` calls."""
    return make(scenario, "single", render_mode=render_mode)


def make_vector(scenario: str | Path | Scenario, num_envs: int, render_mode: str | None = None) -> MergedVectorEnv:
    """What ``gymnasium.make_vec("edgebrush/Campus-v0", num_envs=64)`` calls."""
    return make(scenario, "vector", episodes=num_envs, render_mode=render_mode)
