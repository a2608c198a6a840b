"""A job that does what a test wants, wherever it runs."""

import json
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

from edgebrush.scenario.schema import Scenario


@dataclass(frozen=True)
class ScriptedJob:
    """A job whose result says where it ran. ``acts`` are what its first attempts do instead of finishing."""

    name: str
    scenario: Scenario
    cache: Path
    notes: Path  # the folder in which every attempt leaves a file that names its node
    acts: tuple[str, ...] = ()  # "die" (its process is killed), "hang" (it reports and never ends), "raise"

    @property
    def path(self):
        return self.cache / "scripted" / f"{self.name}.json"

    @property
    def title(self):
        return self.name

    @property
    def done(self):
        return self.path.is_file()

    @property
    def inputs(self):
        return []

    @property
    def nodes(self):
        """The node of each attempt."""
        return [path.read_text() for path in sorted(self.notes.glob(f"{self.name}-[0-9]"))]

    def moved(self, scenario, cache):
        return replace(self, scenario=scenario, cache=cache)

    def run(self, on_progress, processes):
        import ray

        attempt = len(self.nodes)
        note = self.notes / f"{self.name}-{attempt}"
        note.with_suffix(".part").write_text(ray.get_runtime_context().get_node_id())
        note.with_suffix(".part").rename(note)
        act = self.acts[attempt] if attempt < len(self.acts) else ""
        if act == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if act == "raise":
            raise ValueError("no good")
        while act == "hang":
            on_progress(0.5)
            time.sleep(0.1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "JAX_PLATFORMS")
        self.path.write_text(json.dumps({name: os.environ.get(name) for name in names}))
