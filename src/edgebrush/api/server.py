"""The HTTP server of stations and agents: uvicorn with bounded connections, access checks and a graceful shutdown."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import resource
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from edgebrush.errors import UserError

from .access import AccessMiddleware, checked_host, checked_origin
from .connections import BoundedProtocol, TlsHandshake

ACCEPTED_AT_ONCE = 32  # connections, before the loop closes those that are too many
PENDING_CONNECTIONS = 1024  # that the kernel keeps until they are accepted, for bursts
OPEN_FILES = 4096  # an agent has a connection to a BS for each of its clients' connections
FORCED_SHUTDOWN_S = 5  # after the grace period, until uvicorn closes the remaining connections


@dataclass(frozen=True)
class Address:
    """Where a server listens, and to whom it answers. Port 0 picks a free port. Give both TLS files, or none.

    ``allowed_hosts`` are names of the server beside localhost, ``host`` and IP addresses; ``allowed_origins`` the sites
    whose pages may use it.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


class Server(uvicorn.Server):
    """Serves an application. Listens from construction on; calls ``on_ready`` when it accepts requests.

    ``on_stop`` is called at the start of a shutdown, so that the application can end its waiting requests. Raises
    ``UserError`` where the address is taken, or the TLS files, a host or an origin cannot be used.
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
            guarded(app, address),
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,  # uvicorn's own would replace this process's logging handlers
            log_level="error",
            access_log=False,
            server_header=False,
            backlog=ACCEPTED_AT_ONCE,  # asyncio's meaning of it: if it were large, a flood would use up all descriptors
            timeout_graceful_shutdown=math.ceil(grace_s) + FORCED_SHUTDOWN_S,
            ssl_certfile=address.certificate,
            ssl_keyfile=address.key,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise UserError(f"tls: {address.certificate} and {address.key} cannot be used: {error}") from None
        if config.ssl:  # TlsHandshake makes the handshakes, not asyncio
            config.http_protocol_class = functools.partial(TlsHandshake, config.ssl)  # type: ignore[assignment]
            config.ssl = None
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
        self.listener.listen(PENDING_CONNECTIONS)
        with contextlib.suppress(OSError):  # where standard output is a file on a full disk
            self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.on_stop()
        await super().shutdown(sockets)


def guarded(app: FastAPI, address: Address) -> ASGIApp:
    """An application behind the checks of ``Host`` and ``Origin``, with CORS headers for the allowed sites alone."""
    origins = [checked_origin(each) for each in address.allowed_origins]
    hosts = [address.host, *(checked_host(each) for each in address.allowed_hosts)]
    shared: ASGIApp = app
    if origins:
        methods = ["GET", "POST", "DELETE"]
        shared = CORSMiddleware(app, allow_origins=origins, allow_methods=methods, allow_headers=["*"])
    return AccessMiddleware(shared, hosts, origins)


def run(server: Server) -> None:
    """Serve until SIGTERM, then return. SIGINT raises ``KeyboardInterrupt`` after the server has stopped."""
    allow_open_files(OPEN_FILES)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again after its shutdown
    server.run()


def allow_open_files(count: int) -> None:
    """Raise this process's limit of open files to ``count``, where it is lower and may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = count if hard == unlimited else min(count, hard)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(address: Address) -> socket.socket:
    """A listening TCP socket. Raises ``UserError`` where the address cannot be used."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=PENDING_CONNECTIONS)
        # Accepted connections inherit this option. asyncio sets it only on sockets that it opened itself. Without it,
        # Nagle's algorithm delays a response's body by 40 ms, until its headers are acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error  # gaierror's are negative
        raise UserError(
            f"port = {address.port}: cannot be listened on at {address.host} ({reason}); --port 0 finds a free one"
        ) from None
