"""Journals of a known world: requests by a known process, links and stations of known rates and speeds."""

import json
from contextlib import closing
from datetime import UTC, datetime

import numpy as np

from edgebrush.fitting.bursts import simulate
from edgebrush.fitting.servers import HEADER_BYTES
from edgebrush.journal.database import open_database, write_entries
from edgebrush.journal.records import Acceptance, Ending, Task, TaskResult, to_json, wall_time
from edgebrush.profiles.catalogue import load_profile

START_S = 1_790_000_000.0  # the Unix time of the first possible request


def write_journal(folder, tasks):
    """A journal with (task, Unix time of its arrival, result or None) each."""
    folder.mkdir(parents=True)
    entries = []
    for task, at_s, result in tasks:
        time = wall_time(datetime.fromtimestamp(at_s, UTC))
        entries.append(Acceptance(task=task.id, event="accepted", at_s=at_s, time=time, requested=to_json(task)))
        if result is not None:
            end = wall_time(datetime.fromtimestamp(at_s + result.delay_s, UTC))
            fields = dict(result=to_json(result), image=result.image, ended_at=end)
            entries.append(Ending(task=task.id, event="ended", at_s=at_s, time=end, **fields))
    with closing(open_database(folder)) as connection:
        write_entries(connection, entries)


def poisson(rate_hz, span_s, random):
    return np.sort(random.uniform(0.0, span_s, random.poisson(rate_hz * span_s)))


def draw_requests(random, span_s, rates_hz, kinds, images, bursts=None, shared=True):
    """(UE, time, kind, images) of requests by time. ``kinds`` and ``images`` are shares; ``rates_hz`` by UE."""
    rates = np.array(rates_hz)
    if bursts is None:
        per_ue = [poisson(rate, span_s, random) for rate in rates]
    elif shared:
        times = simulate(bursts, rates.sum(), span_s, random)
        owner = random.choice(len(rates), len(times), p=rates / rates.sum())
        per_ue = [times[owner == ue] for ue in range(len(rates))]
    else:
        per_ue = [simulate(bursts, rate, span_s, random) for rate in rates]
    requests = []
    for ue, times in enumerate(per_ue):
        drawn_kinds = random.choice(list(kinds), len(times), p=list(kinds.values()))
        drawn_images = random.choice(list(images), len(times), p=list(images.values()))
        requests += zip([ue] * len(times), times.tolist(), drawn_kinds.tolist(), drawn_images.tolist(), strict=True)
    return sorted(requests, key=lambda request: request[1])


def batched(arrivals, steps, compute, speed, batch_limit):
    """Start and end of each task at a station with step-level batching; ``arrivals`` rise."""
    start, end, left = {}, {}, {}
    now, n, waiting = 0.0, 0, []
    while len(end) < len(arrivals):
        if not left and not waiting:
            now = max(now, arrivals[n])
        while n < len(arrivals) and arrivals[n] <= now:
            waiting.append(n)
            n += 1
        entering = [waiting.pop(0) for _ in range(min(batch_limit - len(left), len(waiting)))]
        for task in entering:
            start[task], left[task] = now, steps[task]
        leaving = [task for task in left if left[task] == 1]
        round_s = float(compute.round_s(len(left)))
        now += (round_s + len(entering) * compute.encode_s + len(leaving) * compute.decode_s) / speed
        left = {task: count - 1 for task, count in left.items() if count > 1}
        end |= dict.fromkeys(leaving, now)
    return [start[task] for task in range(len(arrivals))], [end[task] for task in range(len(arrivals))]


class RecordedWorld:
    """One station called ``large`` and UEs; each task is made at the station, or (one in ``own_every``) at its UE."""

    def __init__(self, seed=1, up_bps=4e6, down_bps=1e7, round_trip_s=0.03, speed=1.6, device_speed=0.7):
        self.random = np.random.default_rng(seed)
        self.up_bps, self.down_bps, self.round_trip_s = up_bps, down_bps, round_trip_s
        self.speed, self.device_speed = speed, device_speed
        self.heavy, self.light = load_profile("sdxl-a100"), load_profile("sd15-snapdragon-8-elite")
        self.steps, self.batch_limit, self.own_every = (4, 8, 15), 4, 5
        self.sent_bytes, self.received_bytes = 2300, 250_000

    @property
    def travel_s(self):
        bits = 8 * (HEADER_BYTES + self.sent_bytes), 8 * (HEADER_BYTES + self.received_bytes)
        return self.round_trip_s + bits[0] / self.up_bps + bits[1] / self.down_bps

    def write(self, folder, requests):
        """The journals ``ue-1``, ``ue-2``, ... of requests."""
        tasks = []  # (UE, arrival, task)
        for number, (ue, at_s, kind, images) in enumerate(requests):
            key = f"request{number}"
            tasks += [(ue, at_s, Task(f"{key}-{n}", "a cat", str(kind), 1, fingerprint="x")) for n in range(images)]
        steps = self.random.choice(self.steps, len(tasks)).tolist()
        away = [at for at in range(len(tasks)) if at % self.own_every]
        starts, ends = batched(
            [tasks[at][1] + 0.1 * self.travel_s for at in away],
            [steps[at] for at in away],
            self.heavy.compute,
            self.speed,
            self.batch_limit,
        )
        served = dict(zip(away, zip(starts, ends, strict=True), strict=True))
        by_ue = {}
        for at, (ue, at_s, task) in enumerate(tasks):
            result = self.away(task, at_s, steps[at], *served[at]) if at in served else self.own(task, steps[at])
            by_ue.setdefault(ue, []).append((task, START_S + at_s, result))
        for ue, rows in by_ue.items():
            write_journal(folder / f"ue-{ue + 1}", rows)
        return [folder / f"ue-{ue + 1}" for ue in sorted(by_ue)]

    def away(self, task, at_s, steps, start, end):
        noise = float(self.random.normal(1.0, 0.03))
        return TaskResult(
            task.id,
            b"png",
            place="large",
            steps=steps,
            delay_s=end + 0.9 * self.travel_s - at_s,
            queue_s=start - at_s,
            compute_s=end - start,
            attempts=1,
            travel_s=self.travel_s * noise,
            server_s=end - at_s,
            sent_bytes=self.sent_bytes,
            received_bytes=self.received_bytes,
        )

    def own(self, task, steps):
        compute = self.light.compute
        seconds = (compute.encode_s + compute.decode_s + steps * float(compute.round_s(1))) / self.device_speed
        seconds *= float(self.random.normal(1.0, 0.05))
        return TaskResult(task.id, b"png", place="own", steps=steps, delay_s=seconds, compute_s=seconds, attempts=1)


def without_fields(folder, *names):
    """Remove fields from the results of a journal, as if an older agent had written it."""
    with closing(open_database(folder)) as connection:
        for task, result in connection.execute("SELECT id, result FROM tasks").fetchall():
            kept = {name: value for name, value in json.loads(result).items() if name not in names}
            connection.execute("UPDATE tasks SET result = ? WHERE id = ?", (json.dumps(kept), task))
