"""The BSs that an agent uses: from the scenario's endpoints and the addresses on the command line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import httpx

from edgebrush.errors import UserError
from edgebrush.scenario.expand import bs_names, expand_bss
from edgebrush.scenario.schema import Endpoint

from .clients import ImagesClient
from .loads import ServerSpec
from .observer import Observer
from .stations import RemoteStation


def build_stations(
    observer: Observer,
    urls: Mapping[str, str],
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[RemoteStation]:
    """The BSs that a UE may use, in the scenario's order: those with an address in ``urls`` or in the scenario.

    Raises ``UserError`` for a name that is not in the scenario, too many BSs, or a key that is not in the environment.
    """
    scenario, space = observer.scenario, observer.layout.action_space
    names = bs_names(scenario)
    for name in urls:
        if name not in names:
            raise UserError(f"station = {name!r}: {scenario.name} has {', '.join(names)}")
    stations = []
    for number, ((bs, profile), name) in enumerate(zip(expand_bss(scenario), names, strict=True)):
        endpoint = with_address(bs.endpoint, name, urls[name]) if name in urls else bs.endpoint
        if endpoint is None:
            continue
        row = observer.bss[number]
        server = ServerSpec(
            float(row["encode_s"] + row["decode_s"]),
            float(row["round_intercept_s"]),
            float(row["round_slope_s"]),
            bs.batch_limit,
            profile.resolution_px,
        )
        client = ImagesClient(endpoint, server.size_px, read_key(endpoint), transport, clock)
        check_address(name, client.load_url)
        model = endpoint.model or bs.profile
        stations.append(RemoteStation(name, number, client, server, space.classes, model, clock))
    if len(stations) > space.slots - 1:
        raise UserError(
            f"station: {len(stations)} given, but a UE of {scenario.name} considers {space.slots - 1} "
            "(decision.neighbours); give the ones with the best links"
        )
    return stations


def with_address(endpoint: Endpoint | None, name: str, url: str) -> Endpoint:
    """The endpoint of a BS at another address; an `edgebrush serve` where it has none. Raises ``UserError``."""
    check_address(name, url)
    base_url = f"{url.rstrip('/')}/v1"
    return endpoint.model_copy(update={"base_url": base_url}) if endpoint else Endpoint(base_url=base_url)


def check_address(name: str, url: str) -> None:
    """Raises ``UserError`` where ``url`` is not a valid HTTP address."""
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UserError(f"station = {name}={url}: {error}; give http://HOST:PORT") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise UserError(f"station = {name}={url}: not an address; give http://HOST:PORT")


def read_key(endpoint: Endpoint) -> str | None:
    """The server's API key, from the environment. Raises ``UserError`` where it is missing."""
    if endpoint.api_key_env is None:
        return None
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise UserError(f"api_key_env = {endpoint.api_key_env!r}: no such key in the environment; export it")
    return key
