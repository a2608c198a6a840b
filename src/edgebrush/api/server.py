"""uvicorn as the runtime's servers need it: bounded connections, heads that come in time, a stop that hands back."""

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

HEAD_S = 10.0  # for a request's head, from the connection's start or the last answer's end
READ_S = 10.0  # for a client to read on, where 64 KiB of its answer wait to be sent
MAX_SOCKETS = 512  # whoever comes beyond is hung up on
BACKSTOP_S = 5  # beyond the grace, until uvicorn itself cuts off what still hangs on


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, but it hangs up on too many, and on those too slow to ask (slow loris) or to read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.head_timer = self.loop.call_later(HEAD_S, self.hang_up_if_silent)
        if len(self.connections) > MAX_SOCKETS:
            transport.abort()

    def on_response_complete(self) -> None:
        self.head_timer.cancel()
        self.head_timer = self.loop.call_later(HEAD_S, self.hang_up_if_silent)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.read_timer = self.loop.call_later(READ_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.read_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self.head_timer.cancel()
        super().connection_lost(exc)

    def hang_up_if_silent(self) -> None:
        if self.cycle is None or self.cycle.response_complete:  # no head yet, or still a body that nobody reads
            self.transport.abort()


@dataclass(frozen=True)
class Address:
    """Where a server listens; port 0 lets the system choose. Both TLS files, or none."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None


class Server(uvicorn.Server):
    """Listens from the start; says when it is ready, and before it stops gives ``on_stop`` the chance to hand back.

    Raises ``UserError`` where the address is taken or the TLS files cannot be used.
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
            log_config=None,  # uvicorn's would close every other handler of this process
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(grace_s) + BACKSTOP_S,
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
    """Serve until SIGTERM, then return; SIGINT is a ``KeyboardInterrupt`` once the server has stopped."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again at its end
    server.run()


def listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=256)
        # Handed down to each connection. asyncio sets it only on sockets that it opened itself, and without it an
        # answer's body waits 40 ms for its head to be acknowledged (Nagle).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error  # gaierror's are negative
        raise UserError(
            f"port = {address.port}: cannot be listened on at {address.host} ({reason}); --port 0 finds a free one"
        ) from None
