"""A job on another machine: what it reads and what it writes travel as the contents of files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edgebrush.files import write_bytes
from edgebrush.scenario.schema import Scenario, TraceArrivals

from .executor import Job

Contents = dict[str, bytes]  # by file name relative to a folder; a single file is under the empty name


@dataclass(frozen=True)
class Parcel:
    """A job with everything that it reads, by which any machine with this version of the package can run it."""

    job: Job
    scenario_files: Contents
    inputs: list[Contents]
    started: Contents  # what an interrupted run of the job left; empty where there is nothing

    @classmethod
    def of(cls, job: Job) -> Parcel:
        """Pack a job."""
        inputs = [read_contents(path) for path in job.inputs]
        return cls(job, _scenario_files(job.scenario), inputs, read_contents(job.path))

    def unpack(self, folder: Path) -> Job:
        """The job with its files and its cache in a folder.

        Raises ``RuntimeError`` where the job's hash is another one here, so that its result would not be the same.
        """
        files, cache = folder / "scenario", folder / "cache"
        for name, content in self.scenario_files.items():
            (files / name).parent.mkdir(parents=True, exist_ok=True)
            (files / name).write_bytes(content)
        job = self.job.moved(self.job.scenario.model_copy(update={"directory": files}), cache)
        if job.path.name != self.job.path.name:
            raise RuntimeError("this machine has another version of edgebrush or other profiles; install the same")
        for path, contents in zip((*job.inputs, job.path), (*self.inputs, self.started), strict=True):
            write_contents(path, contents)
        return job


def read_contents(path: Path) -> Contents:
    """The contents of a file or of a folder with its sub-folders; nothing where there is neither."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(each.relative_to(path)): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()}


def write_contents(path: Path, contents: Contents) -> None:
    """Write what ``read_contents`` read. It appears complete or not at all, in place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if "" in contents:
        write_bytes(path, contents[""])
    elif contents:
        unfinished = path.with_name(f".unfinished-{path.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        for name, content in contents.items():
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / name).write_bytes(content)
        shutil.rmtree(path, ignore_errors=True)
        unfinished.rename(path)


def _scenario_files(scenario: Scenario) -> Contents:
    """The profiles and the trace of a scenario that lie in its folder or below; others keep their places."""
    profiles = {ue.profile for ue in scenario.ues} | {bs.profile for bs in scenario.bss}
    names = {name for name in profiles if name.endswith(".json")}  # others ship with the package
    if isinstance(scenario.arrivals, TraceArrivals):
        names.add(str(scenario.arrivals.file))
    inside = [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]
    return {name: (scenario.directory / name).read_bytes() for name in inside}
