"""The BSs that an agent uses: from the scenario's endpoints and the addresses on the command line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx2

from edgebrush.clients.access import Server, servers_of, tls_context
from edgebrush.clients.client import ImagesClient
from edgebrush.clients.dialects import DIALECTS, STEPS
from edgebrush.clients.loads import ServerSpec
from edgebrush.errors import UserError
from edgebrush.scenario.schema import Link, RequestKind, Scenario

from .observer import Observer
from .stations import RemoteStation

log = logging.getLogger(__name__)


def build_stations(
    observer: Observer,
    urls: Mapping[str, str],
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.monotonic,
    ca_file: Path | None = None,
    token_env: str | None = None,
) -> list[RemoteStation]:
    """The BSs that a UE may use, in the scenario's order: those with an address in ``urls`` or in the scenario.

    ``ca_file`` holds further CA certificates to trust; see ``servers_of`` for ``token_env``. Raises ``UserError`` as
    ``servers_of`` does, for too many BSs, and for a file without certificates.
    """
    scenario, space = observer.scenario, observer.layout.action_space
    trust, stations = tls_context(ca_file), []
    for each in servers_of(scenario, urls, token_env):
        log_if_without_steps(each, scenario)
        spec = server_spec(observer, each)
        client = ImagesClient(each.endpoint, spec.size_px, each.key, transport, clock, trust)
        model = each.endpoint.model or each.bs.profile
        rates_bps = mean_rates_bps(each.bs.link, scenario.requests) if each.bs.link else None
        stations.append(RemoteStation(each.name, each.number, client, spec, space.classes, model, clock, rates_bps))
    if len(stations) > space.slots - 1:
        raise UserError(
            f"station: {len(stations)} given, but a UE of {scenario.name} considers {space.slots - 1} "
            "(decision.neighbours); give the ones with the best links"
        )
    return stations


def mean_rates_bps(link: Link, requests: Sequence[RequestKind]) -> tuple[float, float]:
    """The rates to and from a BS over a link: of a request and an image of mean size, latency included, as measured."""
    latency_s = 0.5 * link.round_trip_s
    bits_in = sum(kind.share * kind.bits_in for kind in requests)
    bits_out = sum(kind.share * kind.bits_out for kind in requests)
    return bits_in / (latency_s + bits_in / link.up_bps), bits_out / (latency_s + bits_out / link.down_bps)


def log_if_without_steps(server: Server, scenario: Scenario) -> None:
    """Such a server makes as many steps as it likes, whatever the policy chooses."""
    kind = server.endpoint.kind
    if STEPS not in DIALECTS[kind].fields and len(scenario.decision.step_grid) > 1:
        log.warning(
            "%s: a server of kind %s takes no steps: the policy's choice of them is lost there", server.name, kind
        )


def server_spec(observer: Observer, server: Server) -> ServerSpec:
    """What the profile of a BS states about it."""
    row = observer.bss[server.number]
    return ServerSpec(
        float(row["encode_s"] + row["decode_s"]),
        float(row["round_intercept_s"]),
        float(row["round_slope_s"]),
        server.bs.batch_limit,
        server.profile.resolution_px,
    )
