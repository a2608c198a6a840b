"""Fits a scenario to what agents have recorded, and writes it as its old text with the changed fields."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from edgebrush.errors import UserError, explain
from edgebrush.scenario.load import load_scenario, read_yaml, scenario_path
from edgebrush.scenario.schema import Scenario, TraceArrivals

from .demand import fit_demand
from .estimate import Estimate, left
from .records import Records
from .supply import fit_supply
from .yaml_edit import edit


def fit(scenario: Scenario, records: Records, needed: int) -> list[Estimate]:
    """All fields that the records can say something about, each from at least ``needed`` tasks or requests."""
    return [
        *fit_demand(scenario, records, needed),
        steps_made(scenario, records),
        *fit_supply(scenario, records, needed),
    ]


def steps_made(scenario: Scenario, records: Records) -> Estimate:
    """The step grid, which is the operator's choice and stays, with the steps that were chosen from it."""
    steps = sorted({task.steps for task in records.made})
    made = f"; made: {', '.join(map(str, steps))}" if steps else ""
    grid = f"{len(scenario.decision.step_grid)} step counts"
    return left(("decision", "step_grid"), grid, len(records.made), f"left: it is your choice{made}")


def fitted_text(base: str, name: str, estimates: Sequence[Estimate], target: Path) -> str:
    """The text of scenario ``base`` with the changed fields, each with what it was in a comment above.

    File names are made relative to ``target``, the file that is to be written.
    """
    path = scenario_path(base)
    changed = [each for each in estimates if each.changed]
    changes: dict[tuple[str | int, ...], Any] = {("name",): name}
    changes |= moved_files(load_scenario(base), path.parent, target.parent)
    changes |= {each.path: each.after for each in changed}
    comments = {
        each.path: f"fitted from {each.count:,} records; {each.path[-1]} was {shown(each.before)}" for each in changed
    }
    return edit(read_yaml(path), changes, comments)


def moved_files(scenario: Scenario, old: Path, new: Path) -> dict[tuple[str | int, ...], str]:
    """The profiles and the trace that are files, relative to another folder."""
    files: dict[tuple[str | int, ...], str] = {
        (field, at, "profile"): each.profile
        for field in ("ues", "bss")
        for at, each in enumerate(getattr(scenario, field))
        if each.profile.endswith(".json")
    }
    if isinstance(scenario.arrivals, TraceArrivals):
        files["arrivals", "file"] = str(scenario.arrivals.file)
    if old.resolve() == new.resolve():
        return {}
    return {path: os.path.relpath(old / file, new) for path, file in files.items()}


def shown(value: Any) -> str:
    """A value on one line, short."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(each)}" for key, each in value.items())
    return "not given" if value is None else str(value)


def check_fitted(text: str, target: Path) -> None:
    """Raises ``UserError`` where a fitted text is no valid scenario."""
    try:
        Scenario.model_validate({**yaml.safe_load(text), "directory": target.parent})
    except ValidationError as error:
        raise UserError(explain(error, "the fitted scenario")) from None
