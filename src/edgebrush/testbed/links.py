"""The radio links between UEs and BSs, emulated by TCP proxies on loopback that delay bytes as the radio model would.

Each direction of a BS's bandwidth is shared as in sim/radio.py: every current sender has an equal part of it, and the
rates change when a transfer starts or ends. The bytes counted are those that really pass, of image requests and their
responses. Load queries are delayed too but use no bandwidth, because broadcasts are free in the simulator.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

IMAGE_REQUEST = b"POST "  # the first bytes of an image request
LOAD_QUERY = b"GET "  # the first bytes of a load query
READ_BYTES = 65536
HEADERS_END = b"\r\n\r\n"

# (UE index from 0, number of senders on the band including this UE) -> the UE's rate in bit/s.
Rate = Callable[[int, int], float]

# (whether the request is for an image) -> the HTTP response to send instead of the BS's; None: ask the BS.
Impostor = Callable[[bool], bytes | None]


@dataclass(eq=False)
class Transfer:
    """``bits`` that a UE still has to send or receive."""

    ue: int
    bits: float
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Band:
    """One direction of a BS's bandwidth: an event-driven processor-sharing queue of transfers."""

    def __init__(self, rate: Rate):
        self.rate = rate
        self.transfers: list[Transfer] = []
        self.updated_s = 0.0  # on the event loop's clock
        self.timer: asyncio.TimerHandle | None = None

    async def transfer(self, ue: int, bits: float) -> None:
        """Wait until ``bits`` of a UE have passed. Cancelling it frees the UE's part of the band."""
        self._update()
        transfer = Transfer(ue, bits)
        self.transfers.append(transfer)
        self._schedule()
        try:
            await transfer.done.wait()
        finally:
            if transfer in self.transfers:  # cancelled
                self._update()
                self.transfers.remove(transfer)
                self._schedule()

    def _update(self) -> None:
        """Subtract from every transfer what has passed since the last update."""
        now, count = asyncio.get_running_loop().time(), len(self.transfers)
        for each in self.transfers:
            each.bits -= (now - self.updated_s) * self.rate(each.ue, count)
        self.updated_s = now

    def _schedule(self) -> None:
        """Set the timer to the moment when the next transfer ends if none starts before."""
        if self.timer:
            self.timer.cancel()
            self.timer = None
        count = len(self.transfers)
        if count:
            soonest_s = min(each.bits / self.rate(each.ue, count) for each in self.transfers)
            self.timer = asyncio.get_running_loop().call_later(max(0.0, soonest_s), self._finish)

    def _finish(self) -> None:
        """End the transfers that are complete."""
        self._update()
        for each in [each for each in self.transfers if each.bits <= 1e-6]:
            self.transfers.remove(each)
            each.done.set()
        self._schedule()


class Link:
    """A proxy between one UE and one BS: connections to ``url`` reach the BS at the rates of the two bands.

    After ``cut`` nothing passes until ``restore``. Connections hang, as when a phone has no coverage. ``limit_bps``
    slows this link down further. An ``impostor`` answers requests instead of the BS. ``latency_s`` delays each request
    and each reply.
    """

    def __init__(self, ue: int, up: Band, down: Band, target: tuple[str, int], latency_s: float = 0.0):
        self.ue, self.up, self.down, self.target, self.latency_s = ue, up, down, target, latency_s
        self.intact = asyncio.Event()
        self.intact.set()
        self.limit_bps = math.inf
        self.impostor: Impostor | None = None
        self.connections: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server | None = None

    async def open(self) -> None:
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

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
        self.intact.clear()

    def restore(self) -> None:
        self.intact.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(Connection(self, reader, writer).run())
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)


class Connection:
    """A TCP connection from a UE to the proxy, and the proxy's own connection to the BS."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.link, self.reader, self.writer = link, reader, writer
        self.carries_image = False  # whether the current request is for an image, not a load query
        self.reply_due = False  # whether the next bytes from the BS start a reply

    async def run(self) -> None:
        """Forward bytes in both directions until one side closes; then close the other."""
        writers = [self.writer]
        try:
            await self.link.intact.wait()
            reader, writer = await asyncio.open_connection(*self.link.target)
            writers.append(writer)
            directions = [
                asyncio.create_task(self._forward(self.reader, writer, self.link.up)),
                asyncio.create_task(self._forward(reader, self.writer, self.link.down)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        except OSError:
            pass  # the BS is not reachable: the UE sees a closed connection
        finally:
            for each in writers:
                each.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, band: Band) -> None:
        while data := await reader.read(READ_BYTES):
            starts_request = band is self.link.up and data.startswith((IMAGE_REQUEST, LOAD_QUERY))
            if starts_request:
                self.carries_image = data.startswith(IMAGE_REQUEST)
                if await self._answer(data):
                    continue
            if starts_request or (band is self.link.down and self.reply_due):
                self.reply_due = starts_request
                await asyncio.sleep(self.link.latency_s)
            bits = 8.0 * len(data)
            if self.carries_image:
                await band.transfer(self.link.ue, bits)
            else:
                await asyncio.sleep(bits / band.rate(self.link.ue, 1))
            await asyncio.sleep(bits / self.link.limit_bps)
            await self.link.intact.wait()
            writer.write(data)
            await writer.drain()
        await self.link.intact.wait()

    async def _answer(self, start: bytes) -> bool:
        """Let the link's impostor, if there is one, answer the request that begins with ``start``."""
        response = self.link.impostor(self.carries_image) if self.link.impostor else None
        if response is None:
            return False
        await read_rest(self.reader, start)
        await self.link.intact.wait()
        self.writer.write(response)
        await self.writer.drain()
        return True


async def read_rest(reader: asyncio.StreamReader, start: bytes) -> None:
    """Read the rest of the HTTP request that begins with ``start``. Raises ``OSError`` where the client leaves."""
    try:
        if (end := start.find(HEADERS_END)) < 0:
            start += await reader.readuntil(HEADERS_END)
            end = start.find(HEADERS_END)
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", start[:end])
        missing = int(length[1]) - (len(start) - end - len(HEADERS_END)) if length else 0
        await reader.readexactly(max(0, missing))
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("the client left") from None
