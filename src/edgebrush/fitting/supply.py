"""What servers, links and devices did: sizes of requests and images, rates, and speeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgebrush.profiles.catalogue import load_profile
from edgebrush.profiles.schema import Profile
from edgebrush.scenario.expand import bs_names
from edgebrush.scenario.schema import Bs, Scenario

from .estimate import Estimate, Z, left, measured, median, rounded, too_few
from .nearest_profile import alone_s
from .records import OWN, RecordedTask, Records
from .servers import HEADER_BYTES

MOSTLY = 0.5  # of the transfer: what takes more than this share of it is what its duration tells about


def fit_supply(scenario: Scenario, records: Records, needed: int) -> list[Estimate]:
    """Estimates of all fields that the images decide, from at least ``needed`` images each."""
    return [
        *fit_sizes(scenario, records, needed),
        *fit_stations(scenario, records, needed),
        *fit_devices(scenario, records, needed),
    ]


def fit_sizes(scenario: Scenario, records: Records, needed: int) -> list[Estimate]:
    """The bits of each kind of request and its image, with HTTP headers."""
    estimates = []
    for at, kind in enumerate(scenario.requests):
        tasks = [task for task in records.made if task.kind == kind.name and task.received_bytes > 0]
        for name, size_of in (("bits_in", sent_bits), ("bits_out", received_bits)):
            path, before = ("requests", at, name), getattr(kind, name)
            if len(tasks) < needed:
                estimates.append(too_few(path, before, len(tasks), needed))
            else:
                bits = [size_of(task) for task in tasks]
                mean, reach = float(np.mean(bits)), Z * float(np.std(bits)) / math.sqrt(len(bits))
                estimates.append(measured(path, before, rounded(mean), len(tasks), (mean - reach, mean + reach)))
    return estimates


def sent_bits(task: RecordedTask) -> float:
    return 8.0 * (HEADER_BYTES + task.sent_bytes)


def received_bits(task: RecordedTask) -> float:
    return 8.0 * (HEADER_BYTES + task.received_bytes)


def fit_stations(scenario: Scenario, records: Records, needed: int) -> list[Estimate]:
    """Link and speed of each station; the stations of one entry are alike, so their images count together."""
    names, estimates = iter(bs_names(scenario)), []
    for at, bs in enumerate(scenario.bss):
        own = [next(names) for _ in range(bs.count)]
        tasks = [[task for task in records.made if task.place == name] for name in own]
        estimates.append(fit_link(("bss", at, "link"), bs, [task for each in tasks for task in each], needed))
        profile = load_profile(bs.profile, scenario.directory)
        estimates.append(fit_station_speed(("bss", at, "speed"), bs, profile, tasks, needed))
    return estimates


def fit_link(path: tuple[str | int, ...], bs: Bs, tasks: Sequence[RecordedTask], needed: int) -> Estimate:
    """The link by the median transfer. Its one unknown is the rate, with the ratio of up to down as it was.

    Where the scenario's round trip takes most of the transfer, it is the round trip. A station on the radio channel
    gets a link with equal rates and no round trip. Transfers that share the link are longer, so its use should be
    moderate.
    """
    before = bs.link.model_dump() if bs.link else None
    timed = [task for task in tasks if task.travel_s > 0]
    if len(timed) < needed:
        why = "; its images have no travel times" if len(tasks) >= needed else ""
        return left(path, before, len(timed), f"left: {len(timed)} of at least {needed}{why}")
    up, down, round_trip_s = (bs.link.up_bps, bs.link.down_bps, bs.link.round_trip_s) if bs.link else (1.0, 1.0, 0.0)
    flows_s = np.array([sent_bits(task) / up + received_bits(task) / down for task in timed])
    travel_s = np.array([task.travel_s for task in timed])
    if round_trip_s > MOSTLY * float(np.median(travel_s)):
        middle, interval = median(travel_s - flows_s)
        after = {"up_bps": up, "down_bps": down, "round_trip_s": rounded(max(middle, 0.0))}
        return Estimate(path, before, after, len(timed), interval, "interval of round_trip_s")
    slower, (low, high) = median((travel_s - round_trip_s) / flows_s)
    if slower <= 0:
        return left(path, before, len(timed), "left: its transfers are shorter than its round trip")
    after = {"up_bps": rounded(up / slower), "down_bps": rounded(down / slower), "round_trip_s": round_trip_s}
    between = (down / high, down / low) if low > 0 else None
    if before and between and between[0] <= down <= between[1]:
        return Estimate(path, before, None, len(timed), between, "left: down_bps is within the interval")
    return Estimate(path, before, after, len(timed), between, "interval of down_bps" if between else "")


def fit_station_speed(
    path: tuple[str | int, ...], bs: Bs, profile: Profile, tasks: Sequence[Sequence[RecordedTask]], needed: int
) -> Estimate:
    """The speed by the median ratio of the profile's seconds, in a batch as large as recorded, to the measured ones.

    The batch is what the journals know: without those of other UEs at the station, the speed looks too low. A station
    that does not state its seconds of computing counts with its seconds as a whole, waiting included.
    """
    used = [[task for task in each if service_s(task) > 0] for each in tasks]
    count = sum(map(len, used))
    if count < needed:
        return too_few(path, bs.speed, count, needed)
    compute, ratios = profile.compute, []
    for each in used:
        for task, batch in zip(each, mean_batch(each), strict=True):
            batch = min(batch, bs.batch_limit)
            fixed_s = (compute.encode_s + compute.decode_s) * batch
            ratios.append((fixed_s + task.steps * float(compute.round_s(batch))) / service_s(task))
    return speed_estimate(path, bs.speed, ratios)


def service_s(task: RecordedTask) -> float:
    return task.compute_s or task.server_s


def mean_batch(tasks: Sequence[RecordedTask]) -> np.ndarray:
    """How many of the tasks were computed at the same time as each one, itself included, on average, ``(n,)``."""
    if not tasks:
        return np.zeros(0)
    length = np.array([service_s(task) for task in tasks])
    end = np.array([(task.end_s or 0.0) - 0.5 * task.travel_s for task in tasks])
    start = end - length
    times = np.sort(np.concatenate([start, end]))
    running = np.searchsorted(np.sort(start), times, "right") - np.searchsorted(np.sort(end), times, "right")
    integral = np.concatenate([[0.0], np.cumsum(running[:-1] * np.diff(times))])
    return np.maximum((np.interp(end, times, integral) - np.interp(start, times, integral)) / length, 1.0)


def fit_devices(scenario: Scenario, records: Records, needed: int) -> list[Estimate]:
    """The speed of each class of UEs that has a journal, by the images that they made themselves."""
    classes = [index for index, ue in enumerate(scenario.ues) for _ in range(ue.count)]
    estimates = []
    for at in sorted({classes[ue] for ue in records.ues}):
        ue = scenario.ues[at]
        profile = load_profile(ue.profile, scenario.directory)
        tasks = [task for task in records.made if task.place == OWN and classes[task.ue] == at and task.compute_s > 0]
        path = ("ues", at, "speed")
        if len(tasks) < needed:
            estimates.append(too_few(path, ue.speed, len(tasks), needed))
        else:
            estimates.append(speed_estimate(path, ue.speed, [alone_s(profile, t.steps) / t.compute_s for t in tasks]))
    return estimates


def speed_estimate(path: tuple[str | int, ...], before: float, ratios: Sequence[float]) -> Estimate:
    """A speed by the median of the profile's seconds relative to the measured ones."""
    middle, interval = median(ratios)
    return measured(path, before, rounded(middle, 3), len(ratios), interval)
