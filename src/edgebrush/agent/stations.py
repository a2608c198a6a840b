"""A BS as its UE sees it: tasks in flight, estimated link rates, the last load report, and whether it is available."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import httpx

from edgebrush.decision.observation import LoadReport
from edgebrush.errors import UserError
from edgebrush.scenario.expand import bs_names, expand_bss
from edgebrush.scenario.schema import Endpoint

from .clients import UNAVAILABLE_S, ImagesClient, Offload, StationError, parse_reply
from .loads import ServerSpec, fade_load, infer_load, parse_load, parse_metrics
from .observer import Observer, StationView

POLL_TIMEOUT_S = 2.0
MIN_POLL_INTERVAL_S = 0.05  # where the scenario's broadcast interval is 0
MAX_POLL_INTERVAL_S = 2.0  # where it is longer, the load requests between two broadcasts only measure the link
NEWEST_WEIGHT = 0.2  # of the newest measurement in an exponential average
HEADER_BYTES = 400  # of a load request and its response, without the response's body
INITIAL_BPS = 1e3  # rate of a link without any measurement
PROBES = 5  # the newest load requests, whose fastest round trip estimates the rates of an unused link
UNUSED_S = 2.0  # a link is unused when no image has measured it for this time
INITIAL_STEPS = 15.0  # mean steps of this UE's tasks at a BS, before the first

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OffloadResult:
    """A BS's image and its seconds: uplink, time on the server (including queue and compute), downlink."""

    image: bytes
    up_s: float
    server_s: float
    down_s: float
    queue_s: float
    compute_s: float
    energy_j: float


class RemoteStation:
    """One BS. ``view`` is what the UE knows about it. Times are on ``clock``, monotonic."""

    def __init__(
        self,
        name: str,
        number: int,
        client: ImagesClient,
        server: ServerSpec,
        classes: int,
        model: str,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.model = model  # BSs with equal ones serve the same requests
        self.name, self.client, self.server, self.clock, self.classes = name, client, server, clock, classes
        self.view = StationView(number, LoadReport.empty(clock(), classes), INITIAL_BPS, INITIAL_BPS)
        self.probes_bps: deque[float] = deque(maxlen=PROBES)  # of load requests since the last image
        self.measured_at = -math.inf  # when an image last measured the rates
        self.unavailable_until = -math.inf  # after a failure; a load report ends it
        self.retry_after_until = -math.inf  # requested by the BS; a load report does not end it
        self.load_readable = True  # whether the last load report could be parsed
        self.mean_steps = INITIAL_STEPS

    @property
    def unavailable(self) -> bool:
        """Whether the BS failed, or requested a pause, so recently that it should be avoided."""
        return self.clock() < max(self.unavailable_until, self.retry_after_until)

    @property
    def reports_load(self) -> bool:
        return self.client.endpoint.load != "none"

    async def close(self) -> None:
        await self.client.close()

    # -- tasks

    async def generate(self, offload: Offload, timeout_s: float) -> OffloadResult:
        """Send a task and wait for its image. Raises ``StationError``; the connection is closed then."""
        self.view.in_flight += 1
        try:
            async with asyncio.timeout(timeout_s):
                result = await self._exchange(offload)
        except TimeoutError:
            raise self._record_failure(StationError(f"no image after {timeout_s:.3g} s")) from None
        except httpx.HTTPError as error:
            raise self._record_failure(StationError(f"{type(error).__name__}: {error}".rstrip(": "))) from None
        except StationError as error:
            raise self._record_failure(error) from None
        finally:
            self.view.in_flight -= 1
        self._update_estimates(offload, result)
        return result

    async def _exchange(self, offload: Offload) -> OffloadResult:
        body, total_s = await self.client.post(offload)
        reply = parse_reply(body)
        expected_s = offload.bits_in / self.view.up_bps + offload.bits_out / self.view.down_bps
        if self.client.is_edgebrush:
            travel_s = max(total_s - reply.queue_s - reply.compute_s, 1e-4)
        else:
            travel_s = min(expected_s, total_s)
        up_s = travel_s * (offload.bits_in / self.view.up_bps) / expected_s
        return OffloadResult(
            reply.image,
            up_s,
            total_s - travel_s,
            travel_s - up_s,
            reply.queue_s,
            reply.compute_s,
            reply.energy_j,
        )

    def _record_failure(self, error: StationError) -> StationError:
        """Avoid the BS for the error's time. Returns the error with the BS's name."""
        until = self.clock() + error.avoid_s
        if error.retry_after:
            self.retry_after_until = until
        else:
            self.unavailable_until = until
        return StationError(f"{self.name}: {error}", error.avoid_s, error.retry_after, error.kind)

    def _update_estimates(self, offload: Offload, result: OffloadResult) -> None:
        """Update the link's rates from the travel time, and the load where the BS does not report it."""
        self.unavailable_until = -math.inf
        self.mean_steps += NEWEST_WEIGHT * (offload.steps - self.mean_steps)
        view = self.view
        if self.client.is_edgebrush:
            self.measured_at = self.clock()
            self.probes_bps.clear()
            view.up_bps = update_rate(view.up_bps, offload.bits_in / result.up_s)
            view.down_bps = update_rate(view.down_bps, offload.bits_out / result.down_s)
        if not self.reports_load:
            view.load = infer_load(self.server, result.server_s, offload.steps, self.clock(), self.classes)

    # -- load

    async def poll_loop(self, interval_s: float) -> None:
        """Poll the load at an interval, forever. A response also shows that the BS is available again.

        Where the interval is long, requests in between measure the link; the load that they report is not used.
        """
        is_finite = interval_s < math.inf
        per_report = max(1, math.ceil(interval_s / MAX_POLL_INTERVAL_S)) if is_finite else math.inf
        pause_s = max(interval_s / per_report, MIN_POLL_INTERVAL_S) if is_finite else MAX_POLL_INTERVAL_S
        for number in itertools.count(1):
            due = self.clock() + pause_s
            await self.poll_load(is_report=number % per_report == 0)
            await asyncio.sleep(max(0.0, due - self.clock()))

    async def poll_load(self, is_report: bool = True) -> None:
        """Request the load once. Any response makes the BS available; an unreadable one keeps the last load.

        Without ``is_report``, the response only measures the link.
        """
        start = self.clock()
        try:
            async with asyncio.timeout(POLL_TIMEOUT_S):
                body, seconds = await self.client.get_load()
        except (TimeoutError, httpx.HTTPError, StationError):
            self.unavailable_until = self.clock() + UNAVAILABLE_S
            return
        self._probe_rates(8 * (HEADER_BYTES + len(body)), seconds)
        if self.unavailable_until < start + UNAVAILABLE_S:  # otherwise it failed after this request was sent
            self.unavailable_until = -math.inf
        if self.reports_load and is_report:
            self._read_load(body, start)

    def _read_load(self, body: bytes, now: float) -> None:
        """Keep the load in a response. Logs the first of several unreadable ones.

        ``now`` is the time of the request, so the age of the load is never underestimated.
        """
        try:
            if self.client.is_edgebrush:
                self.view.load = parse_load(body, now, self.classes)
            else:
                self.view.load = parse_metrics(body, self.client.endpoint, self.mean_steps, now, self.classes)
        except ValueError as error:
            if self.load_readable:
                log.warning("%s: cannot read its load from %s: %s", self.name, self.client.load_url, error)
            self.load_readable = False
        else:
            self.load_readable = True

    def view_at(self, now: float) -> StationView:
        """What is known about the BS at a time: an inferred load decays."""
        if self.reports_load:
            return self.view
        load = fade_load(self.view.load, self.server, self.view.in_flight, self.mean_steps, now, self.classes)
        return replace(self.view, load=load)

    def _probe_rates(self, bits: float, seconds: float) -> None:
        """Estimate both rates of an unused link from load requests, treated as pure transfer.

        A round trip includes the server's latency, so it gives a lower bound of the rate. It replaces an estimate that
        no image has measured, and raises one from images: otherwise a single bad sample would make a BS look slow, no
        image would go there, and nothing would correct it.
        """
        self.probes_bps.append(bits / max(seconds, 1e-4))
        view, fastest = self.view, max(self.probes_bps)
        if self.measured_at == -math.inf:
            view.up_bps = view.down_bps = fastest
        elif self.clock() - self.measured_at > UNUSED_S:
            view.up_bps, view.down_bps = max(view.up_bps, fastest), max(view.down_bps, fastest)


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


def update_rate(bps: float, newest_bps: float) -> float:
    """A link's rate after one more measurement: an exponential average of seconds per bit."""
    return 1.0 / ((1.0 - NEWEST_WEIGHT) / bps + NEWEST_WEIGHT / newest_bps)
