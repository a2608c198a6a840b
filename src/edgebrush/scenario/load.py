"""Scenarios from YAML files: the package's presets by name, one's own by path."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from edgebrush.errors import UserError, explain

from .schema import Scenario

PRESETS = Path(__file__).parent / "presets"


def preset_names() -> list[str]:
    """Names of the presets that ship with the package, the default first."""
    return sorted((path.stem for path in PRESETS.glob("*.yaml")), key=lambda name: (name != "campus", name))


def scenario_path(scenario: str | Path) -> Path:
    """The YAML file of a preset's name or of a path. Raises ``UserError`` where there is none."""
    path = Path(scenario)
    if path.suffix not in (".yaml", ".yml"):
        path = PRESETS / f"{scenario}.yaml"
    if not path.is_file():
        known = ", ".join(preset_names())
        raise UserError(f"scenario {str(scenario)!r} is not there; give a .yaml file or one of: {known}")
    return path


def read_yaml(path: Path) -> str:
    """The file's text, comments and all. Raises ``UserError`` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None


def load_scenario(scenario: str | Path) -> Scenario:
    """The scenario of a preset's name (``campus``) or of a YAML file. Raises ``UserError``."""
    path = scenario_path(scenario)
    try:
        content = yaml.safe_load(read_yaml(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a scenario is a mapping of fields; see `edgebrush scenarios show campus`")
    try:
        return Scenario.model_validate({**content, "directory": path.parent})
    except ValidationError as error:
        raise UserError(explain(error, str(path))) from None
