"""Schedules of faults: reproducible from any storm on, all kinds, what each fault affects, and what it does."""

import asyncio
import json
from itertools import pairwise
from types import SimpleNamespace

import pytest

from edgebrush.clients.loads import parse_load
from edgebrush.clients.replies import StationError, parse_reply
from edgebrush.soak.fault_actions import GARBAGE, impostor, inject
from edgebrush.soak.fault_schedule import BURST_TASKS, FAULTS, KINDS, PlannedFault, draw_storm
from tests.support.virtual_time import run_virtual

UES, BSS = 2, 3


def storms(seed, count=200):
    return [draw_storm(seed, number, UES, BSS) for number in range(count)]


def test_a_storm_depends_only_on_the_seed_and_its_number():
    assert storms(7)[12] == draw_storm(7, 12, UES, BSS) != draw_storm(8, 12, UES, BSS)
    assert str(draw_storm(7, 12, UES, BSS)).startswith("storm 12: ")


def test_storms_have_all_kinds_and_faults_that_overlap():
    drawn = storms(1)
    faults = [fault for storm in drawn for fault in storm.faults]
    assert {fault.kind for fault in faults} == set(KINDS)
    assert all(FAULTS[0] <= len({fault.kind for fault in storm.faults}) <= FAULTS[1] for storm in drawn)
    overlaps = [any(a.at_s < b.at_s < a.at_s + a.duration_s for a, b in pairwise(storm.faults)) for storm in drawn]
    assert sum(overlaps) > len(drawn) / 2
    sizes = [fault.size for fault in faults if fault.kind == "burst"]
    assert BURST_TASKS[0] <= min(sizes) < 40 and 150 < max(sizes) <= BURST_TASKS[1]


def test_one_agent_and_one_station_are_never_killed():
    ends = [
        fault for storm in storms(2) for fault in storm.faults if fault.kind in ("kill-bs", "restart-bs", "restart-ue")
    ]
    assert {fault.bs for fault in ends if fault.bs is not None} == {0, 1}
    assert {fault.ue for fault in ends if fault.ue is not None} == {0}


@pytest.mark.parametrize(
    ("ue", "bs", "affected"),
    [
        (0, 1, [(0, 1)]),
        (None, 1, [(0, 1), (1, 1)]),
        (0, None, [(0, 0), (0, 1), (0, 2)]),
        (None, None, [(ue, bs) for ue in range(UES) for bs in range(BSS)]),
    ],
)
def test_a_fault_affects_the_pairs_of_its_processes(ue, bs, affected):
    fault = PlannedFault("freeze", 0.0, 1.0, ue, bs, 0.5)
    assert [pair for pair in [(i, j) for i in range(UES) for j in range(BSS)] if fault.affects(*pair)] == affected
    assert PlannedFault("burst", 0.0, 1.0, 0, None, 20).affects(1, 2)  # all stations are busy


def test_wrong_answers_are_no_images_and_no_loads():
    """Each kind of garbage is refused by the agent's own readers."""
    for image, load in GARBAGE:
        with pytest.raises(StationError):
            parse_reply(image)
        with pytest.raises(ValueError):
            parse_load(load, 0.0, 1)
    for size, status in ((0.0, 500), (0.2, 502), (0.45, 503), (0.9, 503)):
        answer = impostor(PlannedFault("errors-5xx", 0.0, 1.0, None, 0, size))
        head, body = answer(True).split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 %d " % status) and json.loads(body)["error"]["message"]
        assert (answer(False) is None) == (size >= 0.5)
    busy = impostor(PlannedFault("storm-429", 0.0, 1.0, None, 0, 0.45))(True)
    assert busy.startswith(b"HTTP/1.1 429 ") and b"\r\nRetry-After: 2\r\n" in busy


class StubProcess:
    """Records when it is down; starting takes 2 s."""

    def __init__(self):
        self.down, self.events = asyncio.Lock(), []

    async def kill(self):
        self.events.append("ended")

    async def stop(self):
        await self.kill()

    async def restart(self):
        await asyncio.sleep(2.0)
        self.events.append("started")


def test_two_faults_that_end_the_same_process_act_one_after_the_other():
    """Otherwise the second would kill the process that the first is starting."""

    async def run():
        process = StubProcess()
        testbed = SimpleNamespace(bss=[process], ues=[], links={})
        faults = [PlannedFault(kind, 0.0, 1.0, None, 0, 0.5) for kind in ("kill-bs", "restart-bs")]
        await asyncio.gather(*(inject(fault, testbed, None) for fault in faults))
        return process.events

    assert run_virtual(run()) == ["ended", "started", "ended", "started"]
