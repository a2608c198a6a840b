"""What the faults of a schedule do to a running testbed: each acts, lasts, and is undone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import resource
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from edgebrush.testbed.faults import CLOCK_FILE
from edgebrush.testbed.links import Impostor, Link
from edgebrush.testbed.processes import Process
from edgebrush.testbed.testbed import Testbed

from .fault_schedule import PlannedFault

Burst = Callable[[int, int], Awaitable[None]]  # (UE, number of tasks) -> when all have ended

PNG_START = "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBI"  # base64 of a PNG file that ends within its header
GARBAGE = (  # answers to image requests and to load queries
    (b"<html>not JSON</html>", b"\x00\xff\xfe"),
    (b'{"created": 1, "data": []}', b"{}"),
    (json.dumps({"created": 1, "data": [{"b64_json": PNG_START}]}).encode(), b"[" * 10_000),
    (json.dumps({"created": 1, "data": [{"b64_json": "%%%"}]}).encode(), b'{"running": ' + b"9" * 400 + b"}"),
)


async def inject(fault: PlannedFault, testbed: Testbed, burst: Burst) -> None:
    """Let a fault act for its duration and undo it. Returns when the processes are ready again."""
    match fault.kind:
        case "burst":
            assert fault.ue is not None
            await burst(fault.ue, int(fault.size))
        case "kill-bs" | "restart-bs" | "restart-ue":
            process = _process(fault, testbed)
            async with process.down:
                await (process.stop() if fault.kind == "restart-bs" else process.kill())
                await asyncio.sleep(fault.duration_s if fault.kind == "kill-bs" else 0.0)
                await process.restart()
        case _:
            if fault.kind == "full-disk":
                await _until_up(_process(fault, testbed))
            with _acting(fault, testbed):
                await asyncio.sleep(fault.duration_s)


@contextmanager
def _acting(fault: PlannedFault, testbed: Testbed) -> Iterator[None]:
    """The faults that are undone by a setting: frozen processes, links, wrong answers, disks and clocks."""
    links = [link for (ue, bs), link in testbed.links.items() if fault.ue in (None, ue) and fault.bs in (None, bs)]
    match fault.kind:
        case "freeze":
            process = _process(fault, testbed)
            process.send(signal.SIGSTOP)
            yield
            process.send(signal.SIGCONT)
        case "cut-link":
            for link in links:
                link.cut()
            yield
            for link in links:
                link.restore()
        case "slow-link":
            for link in links:
                link.limit_bps = fault.size
            yield
            for link in links:
                link.limit_bps = math.inf
        case "errors-5xx" | "storm-429" | "garbage":
            yield from _answer(links, impostor(fault))
        case "full-disk":
            process = _process(fault, testbed)
            _limit_files(process, 0)
            yield
            _limit_files(process, resource.RLIM_INFINITY)
        case "clock-step":
            (testbed.folder / CLOCK_FILE).write_text(str(fault.size))
            yield
        case _:
            raise ValueError(fault.kind)


def _process(fault: PlannedFault, testbed: Testbed) -> Process:
    """The agent's process, or else the station's."""
    if fault.ue is not None:
        return testbed.ues[fault.ue]
    assert fault.bs is not None
    return testbed.bss[fault.bs]


async def _until_up(process: Process) -> None:
    """Wait until a process that another fault restarts listens: its address could not be written to a full disk."""
    async with process.down:
        pass


def _answer(links: list[Link], answers: Impostor) -> Iterator[None]:
    for link in links:
        link.impostor = answers
    yield
    for link in links:
        if link.impostor is answers:  # another fault may have replaced it
            link.impostor = None


def _limit_files(process: Process, size: int) -> None:
    """Let writes fail beyond a file size. Like a full disk, this makes SQLite and Python raise ``OSError``."""
    if process.process and process.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (size, hard))


def impostor(fault: PlannedFault) -> Impostor:
    """Wrong answers by a fault's kind and size. In half of the cases load queries are still answered by the BS."""
    fakes_loads = fault.size < 0.5
    choice = fault.size * 2.0 % 1.0
    if fault.kind == "garbage":
        image, load = GARBAGE[int(choice * len(GARBAGE))]
        responses = respond(200, image), respond(200, load)
    elif fault.kind == "storm-429":
        responses = (respond(429, error_body("try later"), f"Retry-After: {int(3 * choice)}\r\n"),) * 2
    else:
        responses = (respond((500, 502, 503)[int(3 * choice)], error_body("out of order")),) * 2
    return lambda is_image: responses[0] if is_image else responses[1] if fakes_loads else None


def error_body(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "server_error"}}).encode()


def respond(status: int, body: bytes, headers: str = "") -> bytes:
    """An HTTP response."""
    lines = (
        f"HTTP/1.1 {status} injected\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    )
    return lines.encode() + body
