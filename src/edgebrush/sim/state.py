"""The simulator's state: arrays of records, allocated once, for many episodes at once.

What does not change is in ``scenario/parameters.py``. Record types do not depend on a scenario's size, so the loops
compile once for all scenarios.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgebrush.decision.action_space import ActionSpace
from edgebrush.decision.observation import BS_COLUMNS, OWN_COLUMNS, ObservationLayout
from edgebrush.scenario.schema import MAX_CLASSES, Scenario

f8, i8 = np.float64, np.int64


EPISODE_STATE = np.dtype(
    [
        ("seed", i8), ("time", f8), ("horizon_s", f8), ("deciding", i8), ("slot_cursor", i8), ("done", i8),
        ("in_system", i8), ("open_arrivals", i8), ("free", i8), ("capacity", i8),
        ("leaves", i8), ("records", i8),
        ("cost", f8), ("cost_seen", f8), ("time_seen", f8), ("cost_rate", f8),
        ("arrived", i8), ("ended", i8), ("recorded", i8), ("overflow", i8), ("decisions", i8),
        ("trace_next", i8), ("trace_wraps", i8), ("trace_start_s", f8), ("trace_ue", i8),
    ]
)  # fmt: skip

UE_STATE = np.dtype(
    [
        ("serving", i8), ("serving_until", f8), ("waiting", i8),
        ("head", i8, (MAX_CLASSES,)), ("tail", i8, (MAX_CLASSES,)), ("work_s", f8, (MAX_CLASSES,)),
        ("pending", i8), ("pending_head", i8), ("pending_tail", i8), ("battery_j", f8),
        ("next_arrival", f8), ("requests", i8), ("images_left", i8), ("tasks", i8),
        ("phase", i8), ("phases", i8), ("phase_until", f8),
        ("x", f8), ("y", f8), ("leg_s", f8), ("leg_x", f8), ("leg_y", f8), ("leg_until", f8), ("legs", i8),
    ]
)  # fmt: skip

BS_STATE = np.dtype(
    [
        ("connections", i8),
        ("running_head", i8), ("running", i8), ("steps_left", i8), ("busy", i8),
        ("run_start", f8), ("run_encode_s", f8), ("round_s", f8), ("rounds", i8), ("run_leaves", i8),
        ("head", i8, (MAX_CLASSES,)), ("tail", i8, (MAX_CLASSES,)),
        ("waiting", i8, (MAX_CLASSES,)), ("waiting_steps", i8, (MAX_CLASSES,)), ("queued", i8),
    ]
)  # fmt: skip

UP, DOWN = 0, 1  # the two bands of a BS

BAND = np.dtype([("head", i8), ("count", i8), ("since", f8), ("first", i8)])  # transfers in progress, a linked list

LINK = np.dtype(
    [
        ("in_flight", i8), ("block", i8), ("gain", f8),
        ("loss_db", f8), ("deviation_db", f8), ("knot", i8), ("shadow_before", f8), ("shadow_after", f8),
    ]
)  # fmt: skip

LOAD_REPORT = np.dtype(
    [
        ("time", f8), ("running", i8), ("steps_left", i8), ("connections", i8),
        ("waiting", i8, (MAX_CLASSES,)), ("waiting_steps", i8, (MAX_CLASSES,)),
    ]
)  # fmt: skip

TASK = np.dtype(
    [
        ("ue", i8), ("number", i8), ("request", i8), ("content", i8), ("next", i8),
        ("arrival", f8), ("deadline_at", f8), ("delay_weight", f8), ("energy_weight", f8),
        ("quality_weight", f8), ("difficulty", f8), ("bits_in", f8), ("bits_out", f8),
        ("bs", i8), ("steps", i8), ("service_class", i8), ("steps_left", i8),
        ("remaining", f8), ("rate", f8), ("since", f8), ("flows_at", f8),
        ("energy_ue_j", f8), ("energy_bs_j", f8), ("refused", i8),
    ]
)  # fmt: skip

OUTCOME = np.dtype(
    [
        ("episode", np.int32), ("ue", np.int32), ("number", np.int32), ("arrival_s", f8), ("end_s", f8),
        ("place", np.int32), ("steps", np.int32), ("service_class", np.int32),
        ("request", np.int32), ("content", np.int32),
        ("delay_s", f8), ("energy_ue_j", f8), ("energy_bs_j", f8), ("quality", f8),
        ("delay_cost", f8), ("energy_cost", f8), ("quality_cost", f8), ("penalty_cost", f8), ("cost", f8),
        ("refused", np.uint8), ("missed", np.uint8), ("dropped", np.uint8), ("lost", np.uint8),
    ]
)  # fmt: skip


class World(NamedTuple):
    """The state of many episodes, with a leading axis E. In the compiled loops: of one episode, as ``Rows``."""

    episode: np.ndarray  # (1,) EPISODE_STATE
    ue: np.ndarray  # (N,) UE_STATE
    bs: np.ndarray  # (M,) BS_STATE
    band: np.ndarray  # (2 M,) BAND, each BS's uplink and downlink
    neighbour: np.ndarray  # (N, S-1) int64, the BSs that each UE considers
    link: np.ndarray  # (N, M) LINK
    report: np.ndarray  # (M,) LOAD_REPORT, each BS's last broadcast
    task: np.ndarray  # (capacity,) TASK
    tree: np.ndarray  # (2 * leaves,) float64, the event calendar (events.py)
    outcome: np.ndarray  # (records,) OUTCOME, ended tasks
    scratch: np.ndarray  # (n,) float64, buffer in which an observation is assembled


def build_worlds(scenario: Scenario, space: ActionSpace, episodes: int, records: int) -> World:
    """Allocate the state of ``episodes`` episodes, each with room for ``records`` ended tasks."""
    n, m = scenario.ue_count, scenario.bs_count
    slotted = scenario.decision.interval_s > 0
    per_ue = sum(ue.count * (1 + ue.queue_limit * (2 if slotted else 1)) for ue in scenario.ues)
    capacity = per_ue + sum(bs.count * bs.connection_limit for bs in scenario.bss) + 2
    leaves = 1 << (leaf_count(n, m) - 1).bit_length()
    described = OWN_COLUMNS + space.classes + (space.slots - 1) * (BS_COLUMNS + 2 * space.classes)
    episode = np.zeros((episodes, 1), EPISODE_STATE)
    episode["done"] = 1  # until ``reset``
    episode["capacity"], episode["leaves"], episode["records"] = capacity, leaves, records
    return World(
        episode,
        np.zeros((episodes, n), UE_STATE),
        np.zeros((episodes, m), BS_STATE),
        np.zeros((episodes, 2 * m), BAND),
        np.zeros((episodes, n, space.slots - 1), i8),
        np.zeros((episodes, n, m), LINK),
        np.zeros((episodes, m), LOAD_REPORT),
        np.zeros((episodes, capacity), TASK),
        np.zeros((episodes, 2 * leaves), f8),
        np.zeros((episodes, records), OUTCOME),
        np.zeros((episodes, described + ObservationLayout(space).size), f8),
    )


def leaf_count(ue_count: int, bs_count: int) -> int:
    """Event sources: broadcast, slot, two per UE (arrivals, device), three per BS (engine, uplink, downlink)."""
    return 2 + 2 * ue_count + 3 * bs_count
