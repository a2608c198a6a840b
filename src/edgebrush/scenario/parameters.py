"""The scenario as arrays of records, for the simulator's compiled loops and for a UE's observation.

The record types do not depend on the scenario's size, so the loops compile once for all scenarios.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from edgebrush.errors import UserError
from edgebrush.scenario.expand import action_space, bs_positions, expand_bss, expand_ues
from edgebrush.scenario.schema import BurstyArrivals, Scenario, TraceArrivals
from edgebrush.scenario.trace import read_trace, replay

f8, i8 = np.float64, np.int64

NONE = -1  # no task, no BS
POISSON, BURSTY, TRACE = 0, 1, 2  # arrival processes
UMI, LOG_DISTANCE = 0, 1  # path loss models

GLOBAL_PARAMS = np.dtype(
    [
        ("ue_count", i8), ("bs_count", i8), ("neighbours", i8), ("classes", i8), ("steps", i8), ("local", i8),
        ("horizon_s", f8), ("interval_s", f8), ("broadcast_s", f8),
        ("bs_energy_weight", f8), ("missed", f8), ("lost", f8),
        ("width_m", f8), ("height_m", f8), ("speed_mps", f8), ("pause_s", f8),
        ("path_loss", i8), ("carrier_ghz", f8), ("intercept_db", f8), ("exponent_db", f8), ("wall_db", f8),
        ("shadowing_db", f8), ("shadowing_s", f8), ("rayleigh", i8), ("coherence_s", f8),
        ("noise_w_per_hz", f8), ("interference", i8), ("downlink", i8),
        ("arrivals", i8), ("rate_hz", f8), ("calm", f8), ("burst", f8), ("calm_s", f8), ("burst_s", f8),
        ("shared_bursts", i8), ("trace_s", f8), ("trace_rows", i8),
    ]
)  # fmt: skip

UE_PARAMS = np.dtype(
    [
        ("fixed_s", f8), ("step_s", f8), ("fixed_j", f8), ("step_j", f8),
        ("ceiling", f8), ("half_steps", f8), ("sharpness", f8),
        ("radiated_w", f8), ("transmit_w", f8), ("receive_w", f8), ("standby_w", f8),
        ("battery_j", f8), ("level_low", f8), ("level_high", f8), ("battery_care", f8),
        ("rate_factor", f8), ("queue_limit", i8),
    ]
)  # fmt: skip

BS_PARAMS = np.dtype(
    [
        ("x", f8), ("y", f8), ("bandwidth_hz", f8), ("power_w", f8),
        ("up_bps", f8), ("down_bps", f8), ("latency_s", f8),  # of a link with measured rates; 0: the radio channel
        ("round_intercept_s", f8), ("round_slope_s", f8), ("encode_s", f8), ("decode_s", f8),
        ("round_intercept_j", f8), ("round_slope_j", f8), ("fixed_j", f8),
        ("ceiling", f8), ("half_steps", f8), ("sharpness", f8),
        ("batch_limit", i8), ("queue_limit", i8), ("connection_limit", i8),
    ]
)  # fmt: skip

REQUEST = np.dtype(
    [
        ("cumulative_share", f8), ("delay_weight", f8), ("energy_weight", f8), ("quality_weight", f8),
        ("bits_in", f8), ("bits_out", f8), ("deadline_s", f8),
    ]
)  # fmt: skip

CONTENT = np.dtype([("cumulative_share", f8), ("difficulty", f8)])

IMAGES = np.dtype([("cumulative_share", f8), ("count", i8)])


class Params(NamedTuple):
    """The scenario as arrays, shared by all episodes. The compiled loops see each field as ``Rows``."""

    common: np.ndarray  # (1,) GLOBAL_PARAMS
    ue: np.ndarray  # (N,) UE_PARAMS
    bs: np.ndarray  # (M,) BS_PARAMS
    request: np.ndarray  # (kinds,) REQUEST
    content: np.ndarray  # (contents,) CONTENT
    images: np.ndarray  # (sizes,) IMAGES
    step_grid: np.ndarray  # (K,) int64
    log_step_grid: np.ndarray  # (K,) float64
    trace_s: np.ndarray  # (L,) float64, arrival times of the trace's tasks; one dummy if there is no trace
    trace_ue: np.ndarray  # (L,) int64


def build_params(scenario: Scenario) -> Params:
    """The scenario as arrays. Raises ``UserError`` if a profile or the trace cannot be used."""
    trace_s, trace_ue, trace_span_s = trace_rows(scenario)
    step_grid = np.array(scenario.decision.step_grid, i8)
    return Params(
        _common_params(scenario, trace_span_s, len(trace_s)), _ue_params(scenario), _bs_params(scenario),
        _requests(scenario), _contents(scenario), _images(scenario), step_grid, np.log(step_grid),
        trace_s, trace_ue,
    )  # fmt: skip


def check_usable(scenario: Scenario) -> None:
    """Raises ``UserError`` if a profile or the trace cannot be used."""
    expand_ues(scenario), expand_bss(scenario), trace_rows(scenario)


def _common_params(scenario: Scenario, trace_span_s: float, trace_length: int) -> np.ndarray:
    decision, radio, arrivals = scenario.decision, scenario.radio, scenario.arrivals
    common = np.zeros(1, GLOBAL_PARAMS)
    noise_db = radio.noise_dbm_per_hz + radio.noise_figure_db
    values = {
        "ue_count": scenario.ue_count, "bs_count": scenario.bs_count,
        "neighbours": action_space(scenario).slots - 1, "classes": decision.classes,
        "steps": len(decision.step_grid), "local": decision.local,
        "horizon_s": scenario.horizon_s, "interval_s": decision.interval_s,
        "broadcast_s": scenario.broadcast_interval_s, "bs_energy_weight": scenario.cost.bs_energy_weight,
        "missed": scenario.cost.missed, "lost": scenario.cost.lost,
        "width_m": scenario.area_m[0], "height_m": scenario.area_m[1],
        "speed_mps": scenario.mobility.speed_mps, "pause_s": scenario.mobility.pause_s,
        "path_loss": UMI if radio.path_loss == "umi-street-canyon" else LOG_DISTANCE,
        "carrier_ghz": radio.carrier_ghz, "intercept_db": radio.intercept_db,
        "exponent_db": radio.exponent_db, "wall_db": radio.wall_loss_db,
        "shadowing_db": -1.0 if radio.shadowing_db is None else radio.shadowing_db,
        "shadowing_s": radio.shadowing_time_s, "rayleigh": radio.fading == "rayleigh",
        "coherence_s": radio.coherence_s, "noise_w_per_hz": 10.0 ** (noise_db / 10.0) * 1e-3,
        "interference": radio.interference, "downlink": radio.downlink, "rate_hz": arrivals.rate_hz,
        "trace_s": trace_span_s, "trace_rows": trace_length,
    }  # fmt: skip
    if isinstance(arrivals, BurstyArrivals):
        values |= {
            "arrivals": BURSTY, "calm": arrivals.calm, "burst": arrivals.burst, "calm_s": arrivals.calm_s,
            "burst_s": arrivals.burst_s, "shared_bursts": arrivals.shared,
        }  # fmt: skip
    elif isinstance(arrivals, TraceArrivals):
        values["arrivals"] = TRACE
    for name, value in values.items():
        common[name] = value
    return common


def _ue_params(scenario: Scenario) -> np.ndarray:
    rows = np.zeros(scenario.ue_count, UE_PARAMS)
    for row, (ue, profile) in zip(rows, expand_ues(scenario), strict=True):
        compute, energy = profile.compute, profile.energy
        row["fixed_s"] = (compute.encode_s + compute.decode_s) / ue.speed
        row["step_s"] = (compute.round_intercept_s + compute.round_slope_s) / ue.speed
        row["fixed_j"] = energy.fixed_j
        row["step_j"] = energy.round_intercept_j + energy.round_slope_j
        _copy(profile.quality, row, "ceiling", "half_steps", "sharpness")
        _copy(ue, row, "radiated_w", "transmit_w", "receive_w", "standby_w", "battery_j", "battery_care")
        _copy(ue, row, "rate_factor", "queue_limit")
        row["level_low"], row["level_high"] = ue.battery_level
    return rows


def _bs_params(scenario: Scenario) -> np.ndarray:
    rows = np.zeros(scenario.bs_count, BS_PARAMS)
    rows["x"], rows["y"] = bs_positions(scenario).T
    for row, (bs, profile) in zip(rows, expand_bss(scenario), strict=True):
        compute, energy = profile.compute, profile.energy
        row["round_intercept_s"] = compute.round_intercept_s / bs.speed
        row["round_slope_s"] = compute.round_slope_s / bs.speed
        row["encode_s"] = compute.encode_s / bs.speed
        row["decode_s"] = compute.decode_s / bs.speed
        _copy(energy, row, "round_intercept_j", "round_slope_j", "fixed_j")
        _copy(profile.quality, row, "ceiling", "half_steps", "sharpness")
        _copy(bs, row, "bandwidth_hz", "power_w", "batch_limit", "queue_limit", "connection_limit")
        if bs.link is not None:
            _copy(bs.link, row, "up_bps", "down_bps")
            row["latency_s"] = 0.5 * bs.link.round_trip_s
    return rows


def _requests(scenario: Scenario) -> np.ndarray:
    rows = np.zeros(len(scenario.requests), REQUEST)
    for row, kind in zip(rows, scenario.requests, strict=True):
        row["delay_weight"] = kind.delay_weight / scenario.cost.delay_ref_s
        row["energy_weight"] = kind.energy_weight / scenario.cost.energy_ref_j
        row["quality_weight"] = kind.quality_weight
        _copy(kind, row, "bits_in", "bits_out")
        row["deadline_s"] = np.inf if kind.deadline_s is None else kind.deadline_s
    rows["cumulative_share"] = _cumulative_shares([kind.share for kind in scenario.requests])
    return rows


def _contents(scenario: Scenario) -> np.ndarray:
    rows = np.zeros(len(scenario.contents), CONTENT)
    rows["difficulty"] = [content.difficulty for content in scenario.contents]
    rows["cumulative_share"] = _cumulative_shares([content.share for content in scenario.contents])
    return rows


def _images(scenario: Scenario) -> np.ndarray:
    rows = np.zeros(len(scenario.images_per_request), IMAGES)
    rows["count"] = list(scenario.images_per_request)
    rows["cumulative_share"] = _cumulative_shares(scenario.images_per_request.values())
    return rows


def _cumulative_shares(shares: Iterable[float]) -> np.ndarray:
    """Cumulative shares. The last is infinite, so that rounding errors cannot leave a gap."""
    cumulative = np.cumsum(list(shares))
    cumulative[-1] = np.inf
    return cumulative


def trace_rows(scenario: Scenario) -> tuple[np.ndarray, np.ndarray, float]:
    """Arrival times and UEs of the trace's tasks, and the period after which it repeats."""
    if not isinstance(scenario.arrivals, TraceArrivals):
        return np.zeros(1), np.zeros(1, i8), 1.0
    path = scenario.directory / scenario.arrivals.file
    time_s, ue = replay(read_trace(path), scenario.ue_count, scenario.task_rate_hz)
    span_s = len(time_s) / scenario.task_rate_hz
    if span_s < scenario.horizon_s:
        raise UserError(
            f"{path}: at {scenario.task_rate_hz:g} tasks/s the trace lasts {span_s:.0f} s, less than "
            f"horizon_s = {scenario.horizon_s:g}; shorten the horizon or lower arrivals.rate_hz"
        )
    return time_s.astype(f8), ue.astype(i8), max(span_s, float(time_s[-1]))


def _copy(source: Any, row: Any, *names: str) -> None:
    for name in names:
        row[name] = getattr(source, name)
