"""Connections of the HTTP server: strict HTTP/1.1, timeouts, and a place for every new client."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from collections import Counter
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from .errors import ApiError, error_response
from .timing import ARRIVAL, Arrival

HEADERS_TIMEOUT_S = 10.0  # for a TLS handshake; for a request's headers, from the end of the last response
READ_TIMEOUT_S = 10.0  # for a client to continue reading, when 64 KiB of its response wait to be sent
MAX_CONNECTIONS = 512  # beyond, the connection that has waited longest is closed
MAX_HEAD = 16 * 1024  # bytes of a request's headers
MAX_REASON = 200  # characters of the reason why a request is refused
NOT_IN_HEAD = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # control characters but the tab, in a line without its CRLF


class StrictConnection(h11.Connection):
    """h11 that refuses what it would accept but other parsers may read differently: the base of request smuggling.

    A proxy and this server that disagree on where a request ends let one client's bytes become another's request.
    ``error`` is why a request was refused.
    """

    error = h11.RemoteProtocolError("")

    def next_event(self) -> Any:
        """As h11. Raises ``h11.RemoteProtocolError`` for an ambiguous head, too."""
        try:
            if self.their_state is h11.IDLE:
                check_head(*self.trailing_data[0].partition(b"\r\n\r\n")[:2])
            return super().next_event()
        except h11.RemoteProtocolError as error:
            self.error = error
            raise


def check_head(head: bytes, end: bytes) -> None:
    """Raise ``h11.RemoteProtocolError`` for a head, complete or without its ``end``, that is ambiguous."""
    lines = (head if end else head.removesuffix(b"\r")).split(b"\r\n")
    if any(NOT_IN_HEAD.search(line) for line in lines):
        raise h11.RemoteProtocolError("a line of the head holds a control character, or does not end with CR LF")
    if any(line[:1] in (b" ", b"\t") for line in lines):
        raise h11.RemoteProtocolError("a line of the head begins with a space")
    fields = [(name.lower(), value) for name, _, value in (line.partition(b":") for line in lines[1:])]
    lengths = [value for name, value in fields if name == b"content-length"]
    is_chunked = any(name == b"transfer-encoding" for name, _ in fields)
    if len(lengths) > 1 or any(b"," in value for value in lengths):
        raise h11.RemoteProtocolError("Content-Length is given more than once")
    if lengths and is_chunked:
        raise h11.RemoteProtocolError("Content-Length and Transfer-Encoding exclude each other")
    if is_chunked and lines[0].endswith(b"HTTP/1.0"):
        raise h11.RemoteProtocolError("HTTP/1.0 has no Transfer-Encoding")
    if sum(name == b"host" for name, _ in fields) > 1:
        raise h11.RemoteProtocolError("Host is given more than once")


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, strict, that closes connections of clients too slow to send headers or to read.

    A client that sends its headers slowly on purpose is known as "slow loris". ``peer`` is the client's network,
    ``silent_since`` the loop's time at which it last sent something or got a complete response.
    """

    conn: StrictConnection

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.conn = StrictConnection(h11.SERVER, MAX_HEAD)
        self.peer, self.silent_since = "", 0.0
        self.arrival = Arrival()
        self.app_state = {**self.app_state, ARRIVAL: self.arrival}  # which every scope copies

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its client: for a request's headers or body. A request in progress does not."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer, self.silent_since = peer_network(transport), self.loop.time()
        self._start_headers_timer()
        make_room(self.connections, self)

    def data_received(self, data: bytes) -> None:
        self.silent_since = self.loop.time()
        self.arrival.note(self.transport.get_extra_info("socket"))
        super().data_received(data)

    def on_response_complete(self) -> None:
        self.silent_since = self.loop.time()
        self.headers_timer.cancel()
        self._start_headers_timer()
        super().on_response_complete()

    def handle_events(self) -> None:
        try:
            super().handle_events()
        except h11.LocalProtocolError:  # an invalid request after the response has begun: nothing can be answered
            self.transport.abort()
            self._end_cycle()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in OpenAI's error format, and close the connection."""
        status, reason = self.conn.error.error_status_hint, str(self.conn.error)[:MAX_REASON]
        refusal = ApiError(status, f"the request is not valid HTTP/1.1: {reason}", code="invalid_http")
        response = error_response(refusal, close=True)
        response.headers["x-content-type-options"] = "nosniff"
        head = h11.Response(status_code=status, headers=response.raw_headers, reason=STATUS_PHRASES[status])
        for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()
        self._end_cycle()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.read_timer = self.loop.call_later(READ_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.read_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self.headers_timer.cancel()
        super().connection_lost(exc)

    def _end_cycle(self) -> None:
        """Tell the application now that its client has disconnected, so that it sends nothing more."""
        if self.cycle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _start_headers_timer(self) -> None:
        self.headers_timer = self.loop.call_later(HEADERS_TIMEOUT_S, self._abort_without_request)

    def _abort_without_request(self) -> None:
        if self.cycle is None or self.cycle.response_complete:  # no headers yet, or the rest of a rejected body
            self.transport.abort()


class TlsHandshake(asyncio.Protocol):
    """A connection until its TLS handshake has ended, when a ``BoundedProtocol`` takes it over.

    asyncio's own TLS server would not show a connection before the end of its handshake, so silent ones would be
    limited by nothing. ``options`` are those of the protocol.
    """

    is_waiting = True

    def __init__(self, context: ssl.SSLContext, **options: Any):
        self.context, self.options = context, options
        self.connections = options["server_state"].connections
        self.loop = asyncio.get_running_loop()
        self.early: list[bytes] = []  # data that arrives between the handshake's end and the takeover

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.pause_reading()  # until the TLS layer reads
        self.transport, self.peer, self.silent_since = transport, peer_network(transport), self.loop.time()
        self.connections.add(self)
        make_room(self.connections, self)
        self.handshake = self.loop.create_task(self.hand_over())

    async def hand_over(self) -> None:
        """Make the handshake; then let the HTTP protocol take the connection over."""
        if self.transport.is_closing():  # another connection took its place
            return
        try:
            encrypted = await self.loop.start_tls(
                self.transport, self, self.context, server_side=True, ssl_handshake_timeout=HEADERS_TIMEOUT_S
            )
        except OSError:  # no TLS, refused, too slow, or disconnected
            self.transport.abort()
            return
        finally:
            self.connections.discard(self)
        if encrypted is None or encrypted.is_closing():
            return
        protocol = BoundedProtocol(**self.options)
        encrypted.set_protocol(protocol)
        protocol.connection_made(encrypted)
        if self.early:
            protocol.data_received(b"".join(self.early))

    def data_received(self, data: bytes) -> None:
        self.early.append(data)

    def shutdown(self) -> None:
        """Called by the server at the start of its shutdown."""
        self.transport.abort()


def make_room(connections: set[Any], newest: BoundedProtocol | TlsHandshake) -> None:
    """Where there are too many connections, close the one that has waited longest for its client.

    Of the peer with the most connections first, so that many silent ones push out each other and not those of others.
    Requests in progress are never closed: if there is nothing else, the newest connection is.
    """
    if len(connections) <= MAX_CONNECTIONS:
        return
    per_peer = Counter(each.peer for each in connections)
    waiting = (each for each in connections if each.is_waiting and each is not newest)
    closed = max(waiting, key=lambda each: (per_peer[each.peer], -each.silent_since), default=newest)
    connections.discard(closed)  # now, since it reports its end later
    closed.transport.abort()


def peer_network(transport: asyncio.BaseTransport) -> str:
    """A client's IPv4 address, or its IPv6 network: one client has a whole /64."""
    address: str = (transport.get_extra_info("peername") or ("",))[0]
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
