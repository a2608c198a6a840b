"""The HTTP server of stations and agents: uvicorn with connection limits, timeouts and a graceful shutdown."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgebrush.errors import UserError

HEADERS_TIMEOUT_S = 10.0  # for a request's headers, from the connection's start or the end of the last response
READ_TIMEOUT_S = 10.0  # for a client to continue reading, when 64 KiB of its response wait to be sent
MAX_CONNECTIONS = 512  # further connections are closed
FORCED_SHUTDOWN_S = 5  # after the grace period, until uvicorn closes the remaining connections


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 that closes excess connections, and those of clients too slow to send headers or to read.

    A client that sends its headers slowly on purpose is known as "slow loris".
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_headers_timer()
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def on_response_complete(self) -> None:
        self.headers_timer.cancel()
        self._start_headers_timer()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.read_timer = self.loop.call_later(READ_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.read_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self.headers_timer.cancel()
        super().connection_lost(exc)

    def _start_headers_timer(self) -> None:
        self.headers_timer = self.loop.call_later(HEADERS_TIMEOUT_S, self._abort_without_request)

    def _abort_without_request(self) -> None:
        if self.cycle is None or self.cycle.response_complete:  # no headers yet, or the rest of a rejected body
            self.transport.abort()


@dataclass(frozen=True)
class Address:
    """Where a server listens. Port 0 picks a free port. Give both TLS files, or none."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None


class Server(uvicorn.Server):
    """Serves an application. Listens from construction on; calls ``on_ready`` when it accepts requests.

    ``on_stop`` is called at the start of a shutdown, so that the application can end its waiting requests. Raises
    ``UserError`` where the address is taken or the TLS files cannot be used.
    """

    def __init__(
        self,
        app: FastAPI,
        address: Address,
        grace_s: float,
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
    ):
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,  # uvicorn's own would replace this process's logging handlers
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(grace_s) + FORCED_SHUTDOWN_S,
            ssl_certfile=address.certificate,
            ssl_keyfile=address.key,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise UserError(f"tls: {address.certificate} and {address.key} cannot be used: {error}") from None
        super().__init__(config)
        self.on_ready, self.on_stop = on_ready, on_stop
        self.listener = listen(address)
        host = f"[{address.host}]" if ":" in address.host else address.host
        scheme = "https" if config.is_ssl else "http"
        self.url = f"{scheme}://{host}:{self.listener.getsockname()[1]}"

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve([self.listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.on_stop()
        await super().shutdown(sockets)


def run(server: Server) -> None:
    """Serve until SIGTERM, then return. SIGINT raises ``KeyboardInterrupt`` after the server has stopped."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again after its shutdown
    server.run()


def listen(address: Address) -> socket.socket:
    """A listening TCP socket. Raises ``UserError`` where the address cannot be used."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=256)
        # Accepted connections inherit this option. asyncio sets it only on sockets that it opened itself. Without it,
        # Nagle's algorithm delays a response's body by 40 ms, until its headers are acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error  # gaierror's are negative
        raise UserError(
            f"port = {address.port}: cannot be listened on at {address.host} ({reason}); --port 0 finds a free one"
        ) from None
