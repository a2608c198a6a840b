"""Shell completion of names: presets, policies, algorithms. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterable


def complete_scenario(incomplete: str) -> list[str]:
    """Presets; where none matches, the shell completes file names."""
    from edgebrush.scenario.presets import preset_names

    return _matching(incomplete, preset_names())


def complete_policy(incomplete: str) -> list[str]:
    """Rules; where none matches, the shell completes folders."""
    from edgebrush.policies.plugins import POLICIES, plugin_names
    from edgebrush.policies.rules import KINDS

    return _matching(incomplete, [*KINDS, *plugin_names(POLICIES)])


def complete_algorithm(incomplete: str) -> list[str]:
    """Algorithms."""
    from edgebrush.learning.plugins import LEARNERS
    from edgebrush.learning.registry import ALGORITHMS
    from edgebrush.policies.plugins import plugin_names

    return _matching(incomplete, [*ALGORITHMS, *plugin_names(LEARNERS)])


def _matching(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
