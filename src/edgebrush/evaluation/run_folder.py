"""The run folder: how the results of a comparison are written and read.

It holds ``results.json`` (all numbers), ``scenario.yaml`` with the files that it refers to, ``digests.npz`` (sums and
counts, from which figures are drawn), ``curve.csv`` (training), ``policies/``, ``figures/*.png`` and ``report.html``.
A folder appears complete or not at all.
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
from edgebrush.files import atomic_write, write_text
from edgebrush.learning import CURVE
from edgebrush.scenario.load import load_scenario
from edgebrush.scenario.schema import Scenario, TraceArrivals

from .statistics import Digest

RESULTS, SCENARIO, DIGESTS = "results.json", "scenario.yaml", "digests.npz"


@dataclass(frozen=True)
class Run:
    """One comparison, as in its folder."""

    scenario: Scenario
    results: dict
    digests: dict[str, Digest]  # by policy, training seeds pooled
    curve: list[dict[str, float]]  # one row per update and training seed; empty where nothing was trained

    @property
    def ranking(self) -> list[str]:
        """Policies, the cheapest first."""
        policies = self.results["policies"]
        return sorted(policies, key=lambda name: policies[name]["cost"]["mean"])

    @property
    def subject(self) -> str:
        """The policy that the report is about: MAPPO, or the best policy where MAPPO was not played."""
        return "mappo" if "mappo" in self.digests else self.ranking[0]

    @property
    def rival(self) -> str | None:
        """The best other policy, to which the subject is compared."""
        return next((name for name in self.ranking if name != self.subject), None)


@contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that is renamed to ``out`` when the block succeeds, and removed when it raises.

    Raises ``UserError`` before the block where ``out`` already exists or cannot be written.
    """
    out = Path(os.path.abspath(out))
    if out.exists() and not overwrite:
        raise UserError(f"out = {str(out)!r}: already exists; give another folder or add --overwrite")
    if out.exists() and not out.is_dir():
        raise UserError(f"out = {str(out)!r}: is a file; give a folder")
    if out.exists() and any(out.iterdir()) and not (out / RESULTS).is_file():
        raise UserError(f"out = {str(out)!r}: is not empty and not a run folder; give another folder")
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
    """Write ``scenario.yaml`` and, beside it, every file that it refers to, so that the folder can be moved."""
    content = scenario.model_dump(mode="json")
    for entry in (*content["ues"], *content["bss"]):
        if entry["profile"].endswith(".json"):
            entry["profile"] = _copy_into(scenario.directory / entry["profile"], folder)
    if isinstance(scenario.arrivals, TraceArrivals):
        content["arrivals"]["file"] = _copy_into(scenario.directory / scenario.arrivals.file, folder)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    write_text(folder / SCENARIO, text)


def _copy_into(source: Path, folder: Path) -> str:
    try:
        shutil.copyfile(source, folder / source.name)
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror}") from None
    return source.name


def store_run(run: Run, folder: Path) -> None:
    """Write the results and the digests into a folder that already has the scenario, the curve and the policies."""
    store_digests(run.digests, folder / DIGESTS)
    write_text(folder / RESULTS, json.dumps(run.results, indent=2))


def store_digests(digests: dict[str, Digest], path: Path) -> None:
    """Write digests by name to an ``.npz``. Raises ``UserError`` where that fails."""
    arrays = {
        f"{name}/{field.name}": getattr(digest, field.name)
        for name, digest in digests.items()
        for field in fields(digest)
    }
    with atomic_write(path) as unfinished:
        np.savez_compressed(unfinished, **arrays)


def load_digests(path: Path, names: Iterable[str]) -> dict[str, Digest]:
    """Read the digests of these names from a file of ``store_digests``."""
    with np.load(path, allow_pickle=False) as arrays:
        return {
            name: Digest(**{field.name: arrays[f"{name}/{field.name}"] for field in fields(Digest)}) for name in names
        }


def load_run(folder: Path) -> Run:
    """Read a run folder. Raises ``UserError`` where it is not one."""
    try:
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        digests = load_digests(folder / DIGESTS, results["policies"])
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"run = {str(folder)!r}: no run of `edgebrush compare` ({reason}); give its folder") from None
    return Run(load_scenario(folder / SCENARIO), results, digests, load_curve(folder / CURVE))


def load_curve(path: Path) -> list[dict[str, float]]:
    """The rows of a training curve; none where the file does not exist."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
