"""Registers an environment per preset with Gymnasium: ``gymnasium.make("edgebrush/Campus-v0")``.

Gymnasium has no entry points for packages since 1.0: a package registers its environments when it is imported.
``import edgebrush`` must stay cheap and therefore does not import Gymnasium. Where Gymnasium is imported later, an
import hook registers the environments then, so the order of the two imports does not matter.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

GYMNASIUM = "gymnasium"
FACTORY = "edgebrush.envs.factory"


def environment_id(preset: str) -> str:
    """The Gymnasium id of a preset: ``campus-gentd26`` becomes ``edgebrush/CampusGentd26-v0``."""
    return f"edgebrush/{''.join(part.capitalize() for part in preset.split('-'))}-v0"


def register_environments() -> None:
    """Register every preset. The environment's ``scenario`` argument can be overridden in ``gymnasium.make``."""
    from gymnasium.envs.registration import register

    from edgebrush.scenario.presets import preset_names

    for preset in preset_names():
        register(
            environment_id(preset),
            entry_point=f"{FACTORY}:make_single",
            vector_entry_point=f"{FACTORY}:make_vector",
            kwargs={"scenario": preset},
        )


class _GymnasiumFinder:
    """An import hook: registers the environments once Gymnasium has been imported, and removes itself."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != GYMNASIUM:
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            run_module = spec.loader.exec_module

            def run_and_register(module: Any) -> None:
                run_module(module)
                register_environments()

            spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


def register_when_imported() -> None:
    """Register now where Gymnasium is loaded already, otherwise as soon as it is imported."""
    if GYMNASIUM in sys.modules:
        register_environments()
    elif not any(isinstance(finder, _GymnasiumFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _GymnasiumFinder())
