"""The BSs that an agent uses: from the scenario's endpoints and the addresses on the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from edgebrush.clients.access import check_address, read_key, tls_context
from edgebrush.clients.client import ImagesClient
from edgebrush.clients.loads import ServerSpec
from edgebrush.errors import UserError
from edgebrush.scenario.expand import bs_names, expand_bss
from edgebrush.scenario.schema import Endpoint

from .observer import Observer
from .stations import RemoteStation


def build_stations(
    observer: Observer,
    urls: Mapping[str, str],
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.monotonic,
    ca_file: Path | None = None,
    token_env: str | None = None,
) -> list[RemoteStation]:
    """The BSs that a UE may use, in the scenario's order: those with an address in ``urls`` or in the scenario.

    ``ca_file`` holds further CA certificates to trust. ``token_env`` is the environment variable with the token of the
    BSs in ``urls``; a BS with ``api_key_env`` in the scenario has that one. Raises ``UserError`` for a name that is not
    in the scenario, too many BSs, a file without certificates, or a token that is not in the environment.
    """
    scenario, space = observer.scenario, observer.layout.action_space
    names = bs_names(scenario)
    for name in urls:
        if name not in names:
            raise UserError(f"station = {name!r}: {scenario.name} has {', '.join(names)}")
    stations, trust = [], tls_context(ca_file)
    for number, ((bs, profile), name) in enumerate(zip(expand_bss(scenario), names, strict=True)):
        endpoint = with_address(bs.endpoint, name, urls[name], token_env) if name in urls else bs.endpoint
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
        source = "api_key_env" if bs.endpoint and bs.endpoint.api_key_env else "station-token-env"
        check_address(name, endpoint.base_url)
        check_address(name, endpoint.metrics_url or endpoint.base_url)
        client = ImagesClient(endpoint, server.size_px, read_key(endpoint, source), transport, clock, trust)
        model = endpoint.model or bs.profile
        stations.append(RemoteStation(name, number, client, server, space.classes, model, clock))
    if len(stations) > space.slots - 1:
        raise UserError(
            f"station: {len(stations)} given, but a UE of {scenario.name} considers {space.slots - 1} "
            "(decision.neighbours); give the ones with the best links"
        )
    return stations


def with_address(endpoint: Endpoint | None, name: str, url: str, token_env: str | None) -> Endpoint:
    """The endpoint of a BS at another address; an `edgebrush serve` where it has none. Raises ``UserError``."""
    check_address(name, url)
    base_url = f"{url.rstrip('/')}/v1"
    if endpoint is None:
        return Endpoint(base_url=base_url, api_key_env=token_env)
    return endpoint.model_copy(update={"base_url": base_url, "api_key_env": endpoint.api_key_env or token_env})
