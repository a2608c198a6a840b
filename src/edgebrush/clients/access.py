"""How a server is reached: its address, the CAs that are trusted, and its API key."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx

from edgebrush.errors import UserError
from edgebrush.logs import hide_in_logs, safe_line
from edgebrush.scenario.schema import Endpoint


def check_address(name: str, url: str) -> None:
    """Raises ``UserError``, without the URL's password, where ``url`` is not a valid HTTP address."""
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UserError(f"station = {safe_line(f'{name}={url}: {error}')}; give http://HOST:PORT") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise UserError(f"station = {safe_line(f'{name}={url}')}: not an address; give http://HOST:PORT")


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Trusts the usual CAs (or those of SSL_CERT_FILE and SSL_CERT_DIR) and those in ``ca_file``.

    Raises ``UserError`` where a file cannot be used.
    """
    source = f"SSL_CERT_FILE = {os.environ.get('SSL_CERT_FILE')!r}"
    try:
        context = httpx.create_ssl_context()
        if ca_file is not None:
            source = f"ca-file = {str(ca_file)!r}"
            context.load_verify_locations(cafile=ca_file)
    except OSError as error:  # also ssl.SSLError
        raise UserError(f"{source}: cannot be used: {error}; give a PEM file with CA certificates") from None
    return context


def read_key(endpoint: Endpoint, source: str) -> str | None:
    """The server's API key, from the environment. Raises ``UserError``, naming ``source``, where it is missing."""
    if endpoint.api_key_env is None:
        return None
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise UserError(f"{source} = {endpoint.api_key_env!r}: no such key in the environment; export it")
    hide_in_logs(key)
    return key
