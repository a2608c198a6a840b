"""Load scenarios from YAML files: presets by name, other files by path."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from edgebrush.errors import UserError, explain
from edgebrush.profiles.catalogue import catalogue_names, load_profile

from .presets import PRESETS, preset_names
from .schema import Scenario

YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)  # ValueError: a date like 2024-13-45, or thousands of digits


def scenario_path(scenario: str | Path) -> Path:
    """The YAML file of a preset or a path. Raises ``UserError`` if it does not exist."""
    path = Path(scenario)
    if path.suffix not in (".yaml", ".yml"):
        path = PRESETS / f"{scenario}.yaml"
    if path.is_dir():
        raise UserError(f"scenario {str(scenario)!r} is a folder; give a .yaml file")
    if not path.is_file():
        known = ", ".join(preset_names())
        raise UserError(f"scenario {str(scenario)!r} does not exist; give a .yaml file or one of: {known}")
    return path


def read_yaml(path: Path) -> str:
    """The file's text with its comments. Raises ``UserError`` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None


def load_scenario(scenario: str | Path) -> Scenario:
    """The scenario of a preset or a YAML file, with its profiles checked. Raises ``UserError``."""
    path = scenario_path(scenario)
    try:
        content = yaml.load(read_yaml(path), UniqueKeyLoader)
    except YAML_ERRORS as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a scenario must be a mapping of fields; see `edgebrush scenarios show campus`")
    if "directory" in content:
        raise UserError(f"{path}: directory: no such field; file names are relative to the scenario file")
    try:
        loaded = Scenario.model_validate({**content, "directory": path.parent})
    except ValidationError as error:
        raise UserError(explain(error, str(path))) from None
    for field, role in (("ues", "light"), ("bss", "heavy")):
        for index, each in enumerate(getattr(loaded, field)):
            check_profile(f"{path}: {field}.{index}.profile", each.profile, role, path.parent)
    return loaded


def fields_hash(scenario: Scenario) -> str:
    """A hash of the scenario's fields without its title and description; profiles and trace count by their names.

    ``edgebrush.jobs.keys.contents_key`` also covers the contents of the profiles and the trace.
    """
    fields = scenario.model_dump_json(exclude={"title", "description"})
    return hashlib.sha256(fields.encode()).hexdigest()[:16]


def check_profile(where: str, name: str, role: str, directory: Path) -> None:
    """Raises ``UserError`` unless the profile exists and has this role."""
    try:
        profile = load_profile(name, directory)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if profile.role != role:
        fitting = ", ".join(known for known in catalogue_names() if load_profile(known).role == role)
        raise UserError(f"{where} = {name!r}: is a {profile.role} model's; give a {role} model's profile: {fitting}")


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, but a repeated field is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue  # not a field name; the safe loader reports it
            if key.value in seen:
                raise yaml.YAMLError(f"field {key.value!r} is given twice, {key.start_mark}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)
