"""The load of a BS: read from its own reports, from Prometheus metrics, or inferred from this UE's round trips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgebrush.api.schema import Load
from edgebrush.decision.observation import LoadReport

MAX_COUNT = 1e9  # tasks or steps; a report with a larger number is invalid
FADE_S = 3.0  # time constant of an inferred load's decay: within 10 s, a server that looked busy is tried again


@dataclass(frozen=True)
class ServerSpec:
    """What a BS's profile states: seconds per image and per round, the batch limit, and the size of its images."""

    fixed_s: float
    round_intercept_s: float
    round_slope_s: float
    batch_limit: int
    size_px: int

    def full_batch_s(self, steps: float) -> float:
        """Seconds of a task in a full batch."""
        return self.fixed_s + steps * (self.round_intercept_s + self.round_slope_s * self.batch_limit)


def parse_load(body: bytes, now: float, classes: int) -> LoadReport:
    """The load in a reply of `edgebrush serve`. Raises ``ValueError`` where it is invalid."""
    load = Load.model_validate_json(body)
    waiting, steps = load.waiting[:classes], load.waiting_steps[:classes]
    if max(load.running, load.steps_left, load.connections, *waiting, *steps) > MAX_COUNT:
        raise ValueError(f"{load.name[:80]} reports a number above {MAX_COUNT:g}")
    if len(waiting) < classes or len(steps) < classes:
        raise ValueError(f"{load.name[:80]} reports {len(waiting)} classes, but the scenario has {classes}")
    return LoadReport(now, load.running, load.steps_left, load.connections, waiting, steps)


def parse_gauges(
    body: bytes, names: Sequence[tuple[str, str]], mean_steps: float, now: float, classes: int
) -> LoadReport:
    """The load in Prometheus metrics: the first pair of gauges that is there, of running and of waiting requests.

    A request counts ``mean_steps`` steps, and a running one half of them. Raises ``ValueError`` where no pair is there,
    or a number is invalid.
    """
    text = body.decode("utf-8", "replace")
    for running_name, waiting_name in names:
        if has_gauge(text, running_name) and has_gauge(text, waiting_name):
            running, waiting = read_gauge(text, running_name), read_gauge(text, waiting_name)
            return classless_load(now, running, 0.5 * mean_steps * running, waiting, mean_steps, classes)
    raise ValueError(f"metric {names[0][0]} is missing")


def has_gauge(text: str, name: str) -> bool:
    return bool(gauge_lines(text, name))


def gauge_lines(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]


def read_gauge(text: str, name: str) -> float:
    """A metric in Prometheus' text format, summed over its labels. Raises ``ValueError`` where it is missing."""
    lines = gauge_lines(text, name)
    value = sum(float(line[len(name) :].rpartition("}")[2].strip().partition(" ")[0]) for line in lines)
    if not lines or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"metric {name}: {value if lines else 'missing'}")
    return value


def infer_load(server: ServerSpec, server_s: float, steps: int, now: float, classes: int) -> LoadReport:
    """The load without this task that explains why a task with ``steps`` steps took ``server_s`` seconds on the server.

    Up to a full batch, it is the batch whose rounds are as long as observed. Beyond that, the excess time counts as
    tasks that waited before. The task itself has ended, so it is not counted: a server that only this UE uses is idle.
    """
    round_s = max(server_s - server.fixed_s, 0.0) / steps
    batch = (round_s - server.round_intercept_s) / server.round_slope_s
    full_s = server.full_batch_s(steps)
    waited_s = max(server_s - full_s, 0.0)
    others = float(np.clip(batch, 1.0, server.batch_limit)) + waited_s / (full_s / server.batch_limit) - 1.0
    running = min(others, server.batch_limit)
    waiting = others - running
    return classless_load(now, running, 0.5 * steps * running, waiting, steps, classes)


def fade_load(
    load: LoadReport, server: ServerSpec, in_flight: int, mean_steps: float, now: float, classes: int
) -> LoadReport:
    """An inferred load at a later time: it decays to this UE's own tasks at the BS, ``in_flight`` in number.

    The waiting tasks also drain as fast as full batches can work them off. ``load`` may also be the last report that
    could be read.
    """
    elapsed_s = now - load.time
    factor = math.exp(-elapsed_s / FADE_S)
    drained = elapsed_s * server.batch_limit / server.full_batch_s(mean_steps)
    faded = load.running * factor if load.running * factor >= 0.5 else 0.0  # half a task or less is none
    running = max(faded, min(in_flight, server.batch_limit))
    waited = sum(load.waiting)
    waiting = max(min(waited * factor, waited - drained), in_flight - server.batch_limit, 0.0)
    return classless_load(load.time, running, 0.5 * mean_steps * running, waiting, mean_steps, classes)


def classless_load(
    now: float, running: float, steps_left: float, waiting: float, steps: float, classes: int
) -> LoadReport:
    """The load of a server without service classes: a new task waits behind all others, as if they had class 0."""
    rest = [0.0] * (classes - 1)
    return LoadReport(now, running, steps_left, running + waiting, [waiting, *rest], [waiting * steps, *rest])
