"""How the servers of a scenario are reached: their addresses, the CAs that are trusted, and their API keys."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from edgebrush.errors import UserError
from edgebrush.logs import hide_in_logs, safe_line
from edgebrush.profiles.schema import Profile
from edgebrush.scenario.expand import bs_names, expand_bss
from edgebrush.scenario.schema import Bs, Endpoint, Scenario


@dataclass(frozen=True)
class Server:
    """A BS with an address. ``number`` counts the scenario's BSs from 0; ``key`` is its API key."""

    name: str
    number: int
    bs: Bs
    profile: Profile
    endpoint: Endpoint
    key: str | None


def servers_of(scenario: Scenario, urls: Mapping[str, str], token_env: str | None = None) -> list[Server]:
    """The BSs with an address in ``urls`` or in the scenario, in the scenario's order.

    ``token_env`` is the environment variable with the token of the BSs in ``urls``; a BS with ``api_key_env`` in the
    scenario has that one. Raises ``UserError`` for a name that is not in the scenario, an address that is none, or a
    token that is not in the environment.
    """
    names = bs_names(scenario)
    for name in urls:
        if name not in names:
            raise UserError(f"station = {name!r}: {scenario.name} has {', '.join(names)}")
    servers = []
    for number, ((bs, profile), name) in enumerate(zip(expand_bss(scenario), names, strict=True)):
        endpoint = with_address(bs.endpoint, name, urls[name], token_env) if name in urls else bs.endpoint
        if endpoint is None:
            continue
        source = "api_key_env" if bs.endpoint and bs.endpoint.api_key_env else "station-token-env"
        check_address(name, endpoint.base_url)
        check_address(name, endpoint.metrics_url or endpoint.base_url)
        servers.append(Server(name, number, bs, profile, endpoint, read_key(endpoint, source)))
    return servers


def with_address(endpoint: Endpoint | None, name: str, url: str, token_env: str | None) -> Endpoint:
    """The endpoint of a BS at another address; an `edgebrush serve` where it has none. Raises ``UserError``."""
    check_address(name, url)
    base_url = f"{url.rstrip('/')}/v1"
    if endpoint is None:
        return Endpoint(base_url=base_url, api_key_env=token_env)
    return endpoint.model_copy(update={"base_url": base_url, "api_key_env": endpoint.api_key_env or token_env})


def check_address(name: str, url: str) -> None:
    """Raises ``UserError``, without the URL's password, where ``url`` is not a valid HTTP address."""
    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise UserError(f"station = {safe_line(f'{name}={url}: {error}')}; give http://HOST:PORT") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise UserError(f"station = {safe_line(f'{name}={url}')}: not an address; give http://HOST:PORT")


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Trusts the usual CAs (or those of SSL_CERT_FILE and SSL_CERT_DIR) and those in ``ca_file``.

    Raises ``UserError`` where a file cannot be used.
    """
    source = f"SSL_CERT_FILE = {os.environ.get('SSL_CERT_FILE')!r}"
    try:
        context = httpx2.create_ssl_context()
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
