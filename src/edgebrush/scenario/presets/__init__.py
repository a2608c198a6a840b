"""The presets: scenarios that ship with the package. Imports little, so that shell completion is fast."""

from __future__ import annotations

from pathlib import Path

PRESETS = Path(__file__).parent


def preset_names() -> list[str]:
    """Names of the presets that ship with the package, the default first."""
    return sorted((path.stem for path in PRESETS.glob("*.yaml")), key=lambda name: (name != "campus", name))
