"""The scenarios that ship with the package, and their names; imports nothing, so that shells can complete them."""

from __future__ import annotations

from pathlib import Path

PRESETS = Path(__file__).parent


def preset_names() -> list[str]:
    """Names of the presets that ship with the package, the default first."""
    return sorted((path.stem for path in PRESETS.glob("*.yaml")), key=lambda name: (name != "campus", name))
