"""What a picture of the world shows, read from the simulator's state: positions, tasks by phase, queues, the clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgebrush.scenario.parameters import NONE
from edgebrush.sim.channel import position
from edgebrush.sim.compile import compiled
from edgebrush.sim.simulator import Simulator, compiled_parameters, episode_world
from edgebrush.sim.state import DOWN, UP

UPLINK, WAITING, RUNNING, DOWNLINK = "uplink", "waiting", "running", "downlink"


@dataclass(frozen=True)
class ConnectedTask:
    """A task on its way through a BS."""

    phase: str  # one of the four above
    ue: int
    bs: int
    service_class: int
    progress: float  # of the transfer, or of the denoising steps; 0 while waiting


@dataclass(frozen=True)
class Snapshot:
    """The world of one episode at one moment."""

    time_s: float
    drained: bool
    in_system: int
    decisions: int
    ended: int
    cost: float  # of all tasks so far
    deciding_ue: int  # NONE where no decision is due
    deciding_request: str
    ue_positions: np.ndarray  # (N, 2) metres
    device_busy_s: np.ndarray  # (N,) seconds left of the task in service
    device_waiting_s: np.ndarray  # (P, N) seconds of waiting work by service class
    in_burst: bool
    tasks: tuple[ConnectedTask, ...]


def take_snapshot(simulator: Simulator, e: int = 0) -> Snapshot:
    """The world of episode ``e``; changes nothing that the simulator computes."""
    scenario, worlds = simulator.scenario, simulator.worlds
    state, ue = worlds.episode[e, 0], worlds.ue[e]
    time_s, drained = float(state["time"]), bool(state["done"])
    positions = np.zeros((scenario.ue_count, 2))
    _positions(simulator.params, worlds, e, positions)
    deciding = NONE if drained else int(state["deciding"])
    task = worlds.task[e, deciding]
    classes = scenario.decision.classes
    return Snapshot(
        time_s=time_s,
        drained=drained,
        in_system=int(state["in_system"]),
        decisions=int(state["decisions"]),
        ended=int(state["ended"]),
        cost=float(state["cost"]),
        deciding_ue=NONE if deciding == NONE else int(task["ue"]),
        deciding_request="" if deciding == NONE else scenario.requests[int(task["request"])].name,
        ue_positions=positions,
        device_busy_s=np.where(ue["serving"] == NONE, 0.0, ue["serving_until"] - time_s),
        device_waiting_s=ue["work_s"].T[:classes].copy(),
        in_burst=bool(ue["phase"].mean() > 0.5),
        tasks=tuple(_connected_tasks(simulator, e)),
    )


def _connected_tasks(simulator: Simulator, e: int) -> Iterator[ConnectedTask]:
    worlds, scenario = simulator.worlds, simulator.scenario
    tasks, time_s = worlds.task[e], worlds.episode[e, 0]["time"]
    for j, bs in enumerate(worlds.bs[e]):
        for phase, direction, bits in ((UPLINK, UP, "bits_in"), (DOWNLINK, DOWN, "bits_out")):
            band = worlds.band[e, 2 * j + direction]
            for task in _linked(tasks, band["head"]):
                left = task["remaining"] - task["rate"] * (time_s - band["since"])
                yield _task(phase, task, j, 1.0 - left / task[bits])
        for p in range(scenario.decision.classes):
            for task in _linked(tasks, bs["head"][p]):
                yield _task(WAITING, task, j, 0.0)
        for task in _linked(tasks, bs["running_head"]):
            yield _task(RUNNING, task, j, 1.0 - (task["steps_left"] - _rounds_done(bs, time_s)) / task["steps"])


def _task(phase: str, task: np.void, bs: int, progress: float) -> ConnectedTask:
    return ConnectedTask(phase, int(task["ue"]), bs, int(task["service_class"]), float(np.clip(progress, 0.0, 1.0)))


def _linked(tasks: np.ndarray, first: int) -> Iterator[np.void]:
    """The records of a linked list."""
    while first != NONE:
        yield tasks[first]
        first = tasks[first]["next"]


def _rounds_done(bs: np.void, time_s: float) -> int:
    """As ``station.rounds_done``, in Python."""
    if not bs["busy"]:
        return 0
    done = int((time_s - bs["run_start"] - bs["run_encode_s"]) // bs["round_s"])
    return max(0, min(done, int(bs["rounds"]) - 1))


@compiled(entry=True)
def _positions(params, worlds, e, out):
    """Write where the UEs of episode e are to ``out (N, 2)``."""
    scenario = compiled_parameters(params)
    world = episode_world(worlds, e)
    time = world.episode[0].time
    for i in range(out.shape[0]):
        out[i, 0], out[i, 1] = position(scenario, world, i, time)
