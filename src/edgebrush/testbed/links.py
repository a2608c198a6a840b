"""The air between UEs and BSs, in user space: bytes pass a port on loopback as slowly as the scenario's radio has it.

A BS's band is shared each way as in sim/radio.py: whoever sends at a moment has an equal part of the bandwidth, and the
rates change when another one starts or ends. What is shared are the bytes that really pass, of image requests and their
answers. Questions about the load take their time, too, but nobody's bandwidth: the simulator's broadcasts are free.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

REQUEST = b"POST "  # what an image request on a connection begins with
QUESTION = b"GET "
READ_BYTES = 65536

# Bits per second of a UE (its number, from 0) that is one of so many on the band.
Rate = Callable[[int, int], float]


@dataclass(eq=False)
class Transfer:
    """Bits of a UE under way."""

    ue: int
    bits: float
    through: asyncio.Event = field(default_factory=asyncio.Event)


class Band:
    """One direction of a BS's bandwidth: processor sharing among the transfers, served by events."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic):
        self.rate, self.clock = rate, clock
        self.transfers: list[Transfer] = []
        self.since = 0.0
        self.timer: asyncio.TimerHandle | None = None

    async def carry(self, ue: int, bits: float) -> None:
        """Returns when so many bits of a UE have passed."""
        self.settle()
        transfer = Transfer(ue, bits)
        self.transfers.append(transfer)
        self.plan()
        try:
            await transfer.through.wait()
        finally:
            if transfer in self.transfers:  # whoever sent it has gone
                self.settle()
                self.transfers.remove(transfer)
                self.plan()

    def settle(self) -> None:
        """Take what has passed since the last change off every transfer."""
        now, count = self.clock(), len(self.transfers)
        for each in self.transfers:
            each.bits -= (now - self.since) * self.rate(each.ue, count)
        self.since = now

    def plan(self) -> None:
        """Wake when the first transfer will have passed, if nothing changes."""
        if self.timer:
            self.timer.cancel()
            self.timer = None
        count = len(self.transfers)
        if count:
            soonest_s = min(each.bits / self.rate(each.ue, count) for each in self.transfers)
            self.timer = asyncio.get_running_loop().call_later(max(0.0, soonest_s), self.end)

    def end(self) -> None:
        self.settle()
        for each in [each for each in self.transfers if each.bits <= 1e-6]:
            self.transfers.remove(each)
            each.through.set()
        self.plan()


class Link:
    """A UE's way to a BS: whoever connects to ``url`` reaches the BS, as slowly as the bands are.

    ``cut`` it, and nothing passes until it is ``restored``: connections hang, as they do when a phone loses its cell.
    """

    def __init__(self, ue: int, up: Band, down: Band, target: tuple[str, int]):
        self.ue, self.up, self.down, self.target = ue, up, down, target
        self.whole = asyncio.Event()
        self.whole.set()
        self.connections: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server | None = None

    async def open(self) -> None:
        self.server = await asyncio.start_server(self.join, "127.0.0.1", 0)

    async def close(self) -> None:
        if self.server:
            self.server.close()
        for each in self.connections:
            each.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self.server
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        self.whole.clear()

    def restore(self) -> None:
        self.whole.set()

    def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(Connection(self, reader, writer).run())
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)


class Connection:
    """One TCP connection of a UE over a link, and the one beyond it to the BS."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.link, self.reader, self.writer = link, reader, writer
        self.carries_image = False  # or a question about the load

    async def run(self) -> None:
        """Pass bytes both ways until either side has gone; then hang up on the other."""
        writers = [self.writer]
        try:
            await self.link.whole.wait()
            reader, writer = await asyncio.open_connection(*self.link.target)
            writers.append(writer)
            ways = [
                asyncio.create_task(self.pass_on(self.reader, writer, self.link.up)),
                asyncio.create_task(self.pass_on(reader, self.writer, self.link.down)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # the BS is not there: the UE sees its connection closed
        finally:
            for each in writers:
                each.close()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, band: Band) -> None:
        while data := await reader.read(READ_BYTES):
            if band is self.link.up and data.startswith((REQUEST, QUESTION)):
                self.carries_image = data.startswith(REQUEST)
            bits = 8.0 * len(data)
            if self.carries_image:
                await band.carry(self.link.ue, bits)
            else:
                await asyncio.sleep(bits / band.rate(self.link.ue, 1))
            await self.link.whole.wait()
            writer.write(data)
            await writer.drain()
        await self.link.whole.wait()
