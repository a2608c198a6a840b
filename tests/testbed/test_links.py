"""Emulated links: processor sharing as in the simulator, complete delivery, and links that can be cut."""

import asyncio

import pytest

from edgebrush.testbed.links import Band, Link
from tests.support.virtual_time import run_virtual

RATE_BPS = 80_000.0


def equal_shares(ue, sharing):
    return RATE_BPS / sharing


async def finish_times(band, *transfers):
    """The seconds at which transfers of (UE, start in s, bits) end."""
    clock = asyncio.get_running_loop().time
    start = clock()

    async def send(ue, start_s, bits):
        await asyncio.sleep(start_s)
        await band.transfer(ue, bits)
        return clock() - start

    return await asyncio.gather(*(send(*each) for each in transfers))


def test_transfers_share_the_band_and_the_last_one_has_it_alone():
    found = run_virtual(finish_times(Band(equal_shares), (0, 0.0, 16_000), (1, 0.1, 4_000)))
    # The first sends 8 kbit alone in 0.1 s. Both share until the second's 4 kbit are sent at 0.2 s. The first then has
    # 4 kbit left: 0.25 s.
    assert found == pytest.approx([0.25, 0.2], abs=1e-6)


def test_rates_may_differ_between_ues():
    band = Band(lambda ue, sharing: (1.0 + ue) * RATE_BPS / sharing)
    found = run_virtual(finish_times(band, (0, 0.0, 8_000), (1, 0.0, 8_000)))
    # The second sends at half of 160 kbit/s until 0.1 s. The first then has 4 kbit left, alone.
    assert found == pytest.approx([0.15, 0.1], abs=1e-6)


def test_a_cancelled_transfer_frees_the_band():
    async def run():
        band = Band(equal_shares)
        cancelled = asyncio.create_task(band.transfer(1, 1e6))
        asyncio.get_running_loop().call_later(0.1, cancelled.cancel)
        found = await finish_times(band, (0, 0.0, 16_000))
        assert not band.transfers
        return found

    assert run_virtual(run()) == pytest.approx([0.1 + 12_000 / RATE_BPS], abs=1e-6)


async def echo(reader, writer):
    """A server that sends back what it receives and closes when the client does."""
    while data := await reader.read(4096):
        writer.write(data)
    writer.close()


def run_linked(use, latency_s=0.0):
    """Run ``use(link, reader, writer)`` with a client's connection through a link to the echo server."""

    async def run():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        link = Link(0, Band(equal_shares), Band(equal_shares), server.sockets[0].getsockname(), latency_s)
        await link.open()
        reader, writer = await connect(link)
        try:
            return await use(link, reader, writer)
        finally:
            writer.close()
            await link.close()
            server.close()
            assert not link.connections

    return run_virtual(run())


async def connect(link):
    host, port = link.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


@pytest.mark.process
def test_an_image_request_takes_the_time_of_its_bytes_up_and_down():
    async def use(link, reader, writer):
        clock = asyncio.get_running_loop().time
        start = clock()
        writer.write(b"POST " + 995 * b"x")
        assert await reader.readexactly(1000) == b"POST " + 995 * b"x"
        return clock() - start

    assert run_linked(use) == pytest.approx(2 * 8000 / RATE_BPS, abs=1e-6)


@pytest.mark.process
def test_request_and_reply_are_delayed_by_the_latency():
    async def use(link, reader, writer):
        clock = asyncio.get_running_loop().time
        times = []
        for _ in range(2):
            start = clock()
            writer.write(b"POST " + 995 * b"x")
            assert len(await reader.readexactly(1000)) == 1000
            times.append(clock() - start)
        return times

    assert run_linked(use, latency_s=0.25) == pytest.approx(2 * [2 * 8000 / RATE_BPS + 0.5], abs=1e-6)


@pytest.mark.process
def test_a_load_query_is_delayed_but_uses_no_bandwidth():
    async def use(link, reader, writer):
        clock = asyncio.get_running_loop().time
        start = clock()
        writer.write(b"GET /v1/load")
        assert await reader.readexactly(12) == b"GET /v1/load"
        return clock() - start, link.up.updated_s, link.down.updated_s

    assert run_linked(use) == (pytest.approx(2 * 96 / RATE_BPS, abs=1e-6), 0.0, 0.0)


@pytest.mark.process
def test_nothing_passes_a_cut_link_and_everything_after_its_restoration():
    async def use(link, reader, writer):
        link.cut()
        writer.write(b"POST hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 60.0)
        link.restore()
        return await asyncio.wait_for(reader.readexactly(10), 2)

    assert run_linked(use) == b"POST hello"


@pytest.mark.process
def test_a_slow_link_takes_longer_for_images_and_load_queries():
    async def use(link, reader, writer):
        clock = asyncio.get_running_loop().time
        link.limit_bps = RATE_BPS / 10
        start = clock()
        writer.write(b"GET /v1/load")
        await reader.readexactly(12)
        return clock() - start

    assert run_linked(use) == pytest.approx(11 * 2 * 96 / RATE_BPS, abs=1e-6)


@pytest.mark.process
def test_an_impostor_answers_instead_of_the_bs_until_it_is_removed():
    """The request's body, which comes later, is read and not taken for another request."""

    async def use(link, reader, writer):
        link.impostor = lambda is_image: b"HTTP/1.1 500 no\r\n\r\n" if is_image else None
        writer.write(b"POST /v1 HTTP/1.1\r\nContent-Length: 9\r\n\r\nPO")
        await asyncio.sleep(0.1)
        writer.write(b"ST body")
        assert await reader.readexactly(19) == b"HTTP/1.1 500 no\r\n\r\n"
        writer.write(b"GET /v1/load")
        assert await reader.readexactly(12) == b"GET /v1/load"
        link.impostor = None
        writer.write(b"POST hello")
        return await reader.readexactly(10)

    assert run_linked(use) == b"POST hello"


@pytest.mark.process
def test_an_unreachable_bs_closes_the_connection():
    async def run():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        server.close()
        link = Link(0, Band(equal_shares), Band(equal_shares), address)
        await link.open()
        reader, writer = await connect(link)
        received = await asyncio.wait_for(reader.read(), 2)
        writer.close()
        await link.close()
        return received

    assert run_virtual(run()) == b""
