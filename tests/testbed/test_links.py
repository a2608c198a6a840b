"""The air: processor sharing as the simulator has it, bytes that arrive whole, and links that can be cut."""

import asyncio
import selectors
import time

import pytest

from edgebrush.testbed.links import Band, Link

RATE_BPS = 80_000.0


def equal_shares(ue, sharing):
    return RATE_BPS / sharing


def play(coroutine):
    return asyncio.run(coroutine)


class Leap(selectors.DefaultSelector):
    """A selector that leaps over the time that it would wait: no busy machine makes a timer late."""

    now = 0.0

    def select(self, timeout=None):
        self.now += timeout or 0.0
        return super().select(0)


class LeapingLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.leap = Leap()
        super().__init__(self.leap)

    def time(self):
        return self.leap.now


def leap_through(coroutine):
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(coroutine)


def test_transfers_share_the_band_and_the_last_one_has_it_alone():
    async def run():
        clock = asyncio.get_running_loop().time
        band = Band(equal_shares, clock)

        async def send(ue, after_s, bits):
            await asyncio.sleep(after_s)
            await band.carry(ue, bits)
            return clock()

        return await asyncio.gather(send(0, 0.0, 16_000), send(1, 0.1, 4_000))

    # The first sends 8 kbit alone in 0.1 s; both share until the second's 4 kbit are through at 0.2 s, when the first
    # has 4 kbit left: 0.25 s.
    assert leap_through(run()) == pytest.approx([0.25, 0.2], abs=1e-6)


def test_rates_may_differ_from_ue_to_ue():
    async def run():
        clock = asyncio.get_running_loop().time
        band = Band(lambda ue, sharing: (1.0 + ue) * RATE_BPS / sharing, clock)

        async def send(ue):
            await band.carry(ue, 8_000)
            return clock()

        return await asyncio.gather(send(0), send(1))

    # Half of 160 kbit/s is enough for the second until 0.1 s; the first then has 4 kbit left, alone.
    assert leap_through(run()) == pytest.approx([0.15, 0.1], abs=1e-6)


def test_who_leaves_frees_the_band():
    async def run():
        band = Band(equal_shares, asyncio.get_running_loop().time)
        gone = asyncio.create_task(band.carry(1, 1e6))
        stays = asyncio.create_task(band.carry(0, 16_000))
        await asyncio.sleep(0.1)
        gone.cancel()
        await stays
        assert not band.transfers
        return asyncio.get_running_loop().time()

    assert leap_through(run()) == pytest.approx(0.1 + 12_000 / RATE_BPS, abs=1e-6)


async def echo(reader, writer):
    """A server that says back what it is told, and hangs up when told nothing more."""
    while data := await reader.read(4096):
        writer.write(data)
    writer.close()


async def linked(use):
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    link = Link(0, Band(equal_shares), Band(equal_shares), server.sockets[0].getsockname())
    await link.open()
    host, port = link.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        return await use(link, reader, writer)
    finally:
        writer.close()
        await link.close()
        server.close()
        assert not link.connections


@pytest.mark.process
def test_a_request_takes_the_time_of_its_bytes_up_and_down():
    async def use(link, reader, writer):
        start = time.monotonic()
        writer.write(b"POST " + 995 * b"x")
        assert await reader.readexactly(1000) == b"POST " + 995 * b"x"
        return time.monotonic() - start

    assert 2 * 8000 / RATE_BPS - 1e-3 < play(linked(use)) < 2.0


@pytest.mark.process
def test_a_question_about_the_load_takes_nobodys_bandwidth():
    async def use(link, reader, writer):
        writer.write(b"GET /v1/load")
        await asyncio.sleep(0)
        assert await reader.readexactly(12) == b"GET /v1/load"
        return link.up.since, link.down.since

    assert play(linked(use)) == (0.0, 0.0)


@pytest.mark.process
def test_nothing_passes_a_cut_link_and_all_passes_once_it_is_restored():
    async def use(link, reader, writer):
        link.cut()
        writer.write(b"POST hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.15)
        link.restore()
        return await asyncio.wait_for(reader.readexactly(10), 2)

    assert play(linked(use)) == b"POST hello"


@pytest.mark.process
def test_a_bs_that_is_not_there_closes_the_connection():
    async def run():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        server.close()
        link = Link(0, Band(equal_shares), Band(equal_shares), address)
        await link.open()
        host, port = link.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        said = await asyncio.wait_for(reader.read(), 2)
        writer.close()
        await link.close()
        return said

    assert play(run()) == b""
