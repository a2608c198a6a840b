"""The run folder: what one comparison leaves behind, and how it is read again.

``results.json`` (all figures), ``scenario.yaml`` with the files it refers to, ``digests.npz`` (counts and
sums that the figures are drawn from), ``curve.csv`` (training), ``policies/``, ``figures/*.png``,
``report.html``. A folder appears whole or not at all.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import yaml

from edgebrush.errors import UserError
from edgebrush.files import whole, write_text
from edgebrush.learning import CURVE
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.schema import Scenario, TraceArrivals

from .statistics import Digest

RESULTS, SCENARIO, DIGESTS = "results.json", "scenario.yaml", "digests.npz"


@dataclass(frozen=True)
class Run:
    """One comparison, as its folder holds it."""

    scenario: Scenario
    results: dict
    digests: dict[str, Digest]  # by policy, training seeds added up
    curve: list[dict[str, float]]  # one row per update and training seed; empty where nothing was trained

    @property
    def ranking(self) -> list[str]:
        """Policies, the cheapest first."""
        policies = self.results["policies"]
        return sorted(policies, key=lambda name: policies[name]["cost"]["mean"])

    @property
    def subject(self) -> str:
        """Whom the report is about: the learner, or the best rule where none was trained."""
        return "mappo" if "mappo" in self.digests else self.ranking[0]

    @property
    def rival(self) -> str | None:
        """The best of the others."""
        return next((name for name in self.ranking if name != self.subject), None)


@contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder under a temporary name that becomes ``out`` when the block ends well, and goes when it does
    not.

    Raises ``UserError`` before the block where ``out`` is there already or its place cannot be written.
    """
    out = Path(os.path.abspath(out))
    if out.exists() and not overwrite:
        raise UserError(f"out = {str(out)!r}: is there already; give another folder or add --overwrite")
    if out.exists() and not out.is_dir():
        raise UserError(f"out = {str(out)!r}: is a file; give a folder")
    if out.exists() and any(out.iterdir()) and not (out / RESULTS).is_file():
        raise UserError(f"out = {str(out)!r}: holds something else than a run; give another folder")
    unfinished = out.with_name(f".unfinished-{out.name}-{os.getpid()}")
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"out = {str(out)!r}: cannot be written: {error.strerror}; choose another folder") from None
    try:
        yield unfinished
        if out.exists():
            shutil.rmtree(out)
        unfinished.rename(out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def store_scenario(scenario: Scenario, folder: Path) -> None:
    """Write ``scenario.yaml`` with every file it refers to beside it, so that the folder can be moved."""
    content = scenario.model_dump(mode="json")
    for entry in (*content["ues"], *content["bss"]):
        if entry["profile"].endswith(".json"):
            entry["profile"] = _keep(scenario.directory / entry["profile"], folder)
    if isinstance(scenario.arrivals, TraceArrivals):
        content["arrivals"]["file"] = _keep(scenario.directory / scenario.arrivals.file, folder)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    write_text(folder / SCENARIO, text)


def _keep(source: Path, folder: Path) -> str:
    try:
        shutil.copyfile(source, folder / source.name)
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror}") from None
    return source.name


def store_run(run: Run, folder: Path) -> None:
    """Write the results and the digests; the scenario, the curve and the policies are there already."""
    store_digests(run.digests, folder / DIGESTS)
    write_text(folder / RESULTS, json.dumps(run.results, indent=2))


def store_digests(digests: dict[str, Digest], path: Path) -> None:
    """Write digests by name to an ``.npz``. Raises ``UserError`` where it cannot be."""
    arrays = {
        f"{name}/{field.name}": getattr(kept, field.name) for name, kept in digests.items() for field in fields(kept)
    }
    with whole(path) as unfinished:
        np.savez_compressed(unfinished, **arrays)


def load_digests(path: Path, names: Iterable[str]) -> dict[str, Digest]:
    """The digests of these names from what ``store_digests`` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return {
            name: Digest(**{field.name: arrays[f"{name}/{field.name}"] for field in fields(Digest)}) for name in names
        }


def load_run(folder: Path) -> Run:
    """A run folder, read again. Raises ``UserError`` where it is not one."""
    try:
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        digests = load_digests(folder / DIGESTS, results["policies"])
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"run = {str(folder)!r}: no run of `edgebrush compare` ({reason}); give its folder") from None
    return Run(load_scenario(folder / SCENARIO), results, digests, load_curve(folder / CURVE))


def load_curve(path: Path) -> list[dict[str, float]]:
    """Rows of a training curve; none where there is no such file."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
