"""A BS as its UE sees it: tasks in flight, estimated link rates, the last load report, and whether it is available."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx2

from edgebrush.api.errors import printable
from edgebrush.clients.client import EXCHANGE_ERRORS, Exchange, ImagesClient
from edgebrush.clients.loads import ServerSpec, fade_load, infer_load
from edgebrush.clients.offload import Offload
from edgebrush.clients.reasons import reason_of, reason_of_status
from edgebrush.clients.replies import Reply, StationError, parse_reply
from edgebrush.decision.observation import LoadReport

from .health import Health
from .observer import StationView

POLL_TIMEOUT_S = 2.0
MIN_POLL_INTERVAL_S = 0.05  # where the scenario's broadcast interval is 0
MAX_POLL_INTERVAL_S = 2.0  # where it is longer, the load requests between two broadcasts only measure the link
MAX_BACKOFF_S = 4.0  # between load requests to a dropped BS that answers none, or with errors
NEWEST_WEIGHT = 0.2  # of the newest measurement in an exponential average
HEADER_BYTES = 400  # of a load request and its response, without the response's body
INITIAL_BPS = 1e3  # rate of a link without any measurement
INLINE_BYTES = 2**18  # a larger reply is read in a thread, because decoding it would block the event loop
MIN_TRAVEL_S = 1e-4  # of an image on the network
PROBES = 5  # the newest load requests, whose fastest round trip estimates the rates of an unused link
UNUSED_S = 2.0  # a link is unused when no image has measured it for this time
MAX_REASON_CHARACTERS = 300  # in the log
OPEN_S = 1.0  # a task that was sent this long ago is counted by a server that counts
INITIAL_STEPS = 15.0  # mean steps of this UE's tasks at a BS, before the first

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OffloadResult:
    """A BS's image and its seconds: uplink, time on the server (including queue and compute), downlink.

    ``travel_s``: measured seconds of uplink and downlink; 0 where the BS does not state its own, so both are guesses.
    """

    image: bytes
    up_s: float
    server_s: float
    down_s: float
    queue_s: float
    compute_s: float
    energy_j: float
    travel_s: float
    sent_bytes: int  # of the request's body
    received_bytes: int  # of the response's body


class RemoteStation:
    """One BS. ``view`` is what the UE knows about it. Times are on ``clock``, monotonic.

    ``model`` names the model that it runs: two BSs with equal names accept the same requests. ``rates_bps`` are the
    rates to and from the BS, if they were measured before.
    """

    def __init__(
        self,
        name: str,
        number: int,
        client: ImagesClient,
        server: ServerSpec,
        classes: int,
        model: str,
        clock: Callable[[], float] = time.monotonic,
        rates_bps: tuple[float, float] | None = None,
    ):
        self.name, self.client, self.server, self.clock, self.classes = name, client, server, clock, classes
        self.model = model
        rates = rates_bps or (INITIAL_BPS, INITIAL_BPS)
        self.view = StationView(number, LoadReport.empty(clock(), classes), *rates)
        self.health = Health(clock)
        self.probes_bps: deque[float] = deque(maxlen=PROBES)  # of load requests since the last image
        self.measured_at = clock() if rates_bps else -math.inf  # when an image last measured the rates
        self.open_since: list[float] = []  # when this UE's tasks there were sent
        self.counts_tasks = True  # whether a report without tasks means an idle server
        self.load_readable = True  # whether the last load report could be read
        self.was_reached = False  # at least once
        self.logged_unreachable = False  # in the log: that it is not used
        self.logged_unreadable = False  # in the log: that its load is inferred
        self.mean_steps = INITIAL_STEPS

    @property
    def unavailable(self) -> bool:
        """Whether the BS should be avoided now, because it failed or asked for a pause."""
        return not self.health.available

    @property
    def reports_load(self) -> bool:
        """Whether the BS is asked for its load."""
        return self.client.dialect.reports_load

    @property
    def infers_load(self) -> bool:
        """Whether the load is inferred, because the BS does not report it or its report cannot be read."""
        return not (self.reports_load and self.load_readable)

    async def close(self) -> None:
        await self.client.close()

    # -- tasks

    async def generate(self, offload: Offload, timeout_s: float) -> OffloadResult:
        """Send a task and wait for its image. Raises ``StationError``; the connection is closed then."""
        sent_at = self.clock()
        self.view.in_flight += 1
        self.open_since.append(sent_at)
        self.health.image_started()
        try:
            async with asyncio.timeout(timeout_s):
                result = await self._exchange(offload)
        except asyncio.CancelledError:
            self.health.image_ended_otherwise()
            raise
        except TimeoutError:
            error = StationError(f"no image after {timeout_s:.3g} s", is_fault=timeout_s >= offload.expected_s)
            raise self._record_failure(error, offload) from None
        except httpx2.HTTPError as problem:
            reached = not isinstance(problem, (httpx2.ConnectError, httpx2.ConnectTimeout))
            raise self._record_failure(StationError(reason_of(problem), reached=reached), offload) from None
        except StationError as error:
            raise self._record_failure(error, offload) from None
        finally:
            self.view.in_flight -= 1
            self.open_since.remove(sent_at)
        self.health.image_succeeded()
        self._update_estimates(offload, result)
        return result

    async def _exchange(self, offload: Offload) -> OffloadResult:
        exchange = await self.client.post(offload)
        is_large = len(exchange.body) > INLINE_BYTES
        reply = await asyncio.to_thread(parse_reply, exchange.body) if is_large else parse_reply(exchange.body)
        expected_s = offload.bits_in / self.view.up_bps + offload.bits_out / self.view.down_bps
        total_s = exchange.seconds
        server_s = self._stated_s(exchange, reply)
        # Without the BS's seconds, the travel is as long as expected.
        travel_s = min(expected_s, total_s) if server_s is None else max(total_s - server_s, MIN_TRAVEL_S)
        up_s = travel_s * (offload.bits_in / self.view.up_bps) / expected_s
        return OffloadResult(
            reply.image,
            up_s,
            total_s - travel_s,
            travel_s - up_s,
            reply.queue_s,
            reply.compute_s,
            reply.energy_j,
            0.0 if server_s is None else travel_s,
            len(exchange.response.request.content),
            len(exchange.body),
        )

    def _stated_s(self, exchange: Exchange, reply: Reply) -> float | None:
        """The seconds at the server as it states them; None where it does not, or claims more than there were."""
        if not self.client.is_edgebrush:
            return None
        if exchange.server_s is not None:
            return exchange.server_s
        seconds = reply.queue_s + reply.compute_s
        return seconds if seconds <= exchange.seconds else None

    def _record_failure(self, error: StationError, offload: Offload) -> StationError:
        """Record what an error says about the BS. Returns it with the BS's name."""
        error.station = self.name
        if error.kind == "invalid" and offload.is_valid:
            error.kind, error.is_fault = "failed", True
        if error.is_fault:
            self.health.image_failed(error.reached)
            self._log_if_dropped(f"its last image failed: {error.reason}")
        else:
            self.health.image_ended_otherwise()
        if error.kind == "overload":
            self.health.pause(error.retry_after_s)
        return error

    def _update_estimates(self, offload: Offload, result: OffloadResult) -> None:
        """Update the link's rates from the travel time, and the load where the BS does not report it."""
        self._log_if_reached()
        self.mean_steps += NEWEST_WEIGHT * (offload.steps - self.mean_steps)
        view = self.view
        if self.client.is_edgebrush:
            self.measured_at = self.clock()
            self.probes_bps.clear()
            view.up_bps = update_rate(view.up_bps, offload.bits_in / result.up_s)
            view.down_bps = update_rate(view.down_bps, offload.bits_out / result.down_s)
        if self.infers_load:
            view.load = infer_load(self.server, result.server_s, offload.steps, self.clock(), self.classes)

    # -- load

    async def poll_loop(self, interval_s: float) -> None:
        """Poll the load at an interval, forever. A dropped BS with bad answers is polled less and less often.

        Where the interval is long, requests in between measure the link; the load that they report is not used.
        """
        is_finite = interval_s < math.inf
        per_report = max(1, math.ceil(interval_s / MAX_POLL_INTERVAL_S)) if is_finite else math.inf
        pause_s = max(interval_s / per_report, MIN_POLL_INTERVAL_S) if is_finite else MAX_POLL_INTERVAL_S
        wait_s = pause_s
        for number in itertools.count(1):
            due = self.clock() + wait_s
            is_good = await self.poll_load(is_report=number % per_report == 0)
            await asyncio.sleep(max(0.0, due - self.clock()))
            backs_off = self.health.dropped and not is_good
            wait_s = min(2.0 * wait_s, MAX_BACKOFF_S) if backs_off else pause_s

    async def poll_load(self, is_report: bool = True) -> bool:
        """Request the load once. Returns whether the BS answered as it should.

        Without ``is_report``, the response only measures the link.
        """
        start = self.clock()
        try:
            async with asyncio.timeout(POLL_TIMEOUT_S):
                exchange = await self.client.get_load()
        except EXCHANGE_ERRORS as error:
            self.health.load_unanswered()
            self._log_if_dropped(reason_of(error))
            return False
        status = exchange.response.status_code
        at_server_s = (exchange.server_s or 0.0) if self.client.is_edgebrush else 0.0
        self._probe_rates(8 * (HEADER_BYTES + len(exchange.body)), exchange.seconds - at_server_s)
        may_lack_page = not self.client.is_edgebrush and status < 500 and status not in (401, 403)
        is_good = status == 200 or may_lack_page
        self.health.load_answered(start, is_good)
        if is_good:
            self._log_if_reached()
        else:
            self._log_if_dropped(reason_of_status(status))
        if self.reports_load and is_report:
            self._read_load(status, exchange.body, start)
        return is_good

    def _read_load(self, status: int, body: bytes, sent_at: float) -> None:
        """Keep the load in a response; where there is none, the load is inferred. Logs changes between the two.

        ``sent_at`` is the time of the request, so the age of the load is never underestimated.
        """
        self.load_readable = True
        try:
            if status != 200:
                raise ValueError(f"status {status}")
            load = self.client.dialect.read_load(body, sent_at, self.classes, self.mean_steps)
            self._check_zero(load, sent_at)
        except ValueError as error:
            self.load_readable = False
            if not (self.logged_unreadable or self.logged_unreachable):
                self.logged_unreadable = True
                reason = printable(str(error))[:MAX_REASON_CHARACTERS]
                log.warning(
                    "%s: its load cannot be read from %s: %s. It is inferred from this UE's own tasks now",
                    self.name,
                    self.client.load_url,
                    reason,
                    extra={"station": self.name, "reason": reason},
                )
            return
        self.view.load = load
        if load.running + sum(load.waiting) < self.server.batch_limit:
            self.health.room_reported(sent_at)
        if self.logged_unreadable:
            self.logged_unreadable = False
            log.warning("%s: its load can be read again", self.name, extra={"station": self.name})

    def _check_zero(self, load: LoadReport, sent_at: float) -> None:
        """A server whose reports are turned off reports no tasks, also while it has some. It is not taken for idle.

        Raises ``ValueError`` from the first such contradiction on, until it reports a task.
        """
        if not self.client.dialect.zero_if_off:
            return
        if load.connections > 0:
            self.counts_tasks = True
        elif any(sent_at - since > OPEN_S for since in self.open_since):
            self.counts_tasks = False
        if not self.counts_tasks:
            raise ValueError("it reports no tasks while it has some; start it with --log-stats")

    def view_at(self, now: float) -> StationView:
        """What is known about the BS at a time: an inferred load decays."""
        if not self.infers_load:
            return self.view
        load = fade_load(self.view.load, self.server, self.view.in_flight, self.mean_steps, now, self.classes)
        return replace(self.view, load=load)

    def _probe_rates(self, bits: float, seconds: float) -> None:
        """Estimate both rates of an unused link from load requests, treated as pure transfer.

        Without the server's own seconds, a round trip gives a lower bound of the rate. It replaces an estimate that
        no image has measured, and raises one from images: otherwise a single bad sample would make a BS look slow, no
        image would go there, and nothing would correct it.
        """
        self.probes_bps.append(bits / max(seconds, MIN_TRAVEL_S))
        view, fastest = self.view, max(self.probes_bps)
        if self.measured_at == -math.inf:
            view.up_bps = view.down_bps = fastest
        elif self.clock() - self.measured_at > UNUSED_S:
            view.up_bps, view.down_bps = max(view.up_bps, fastest), max(view.down_bps, fastest)

    # -- log

    def _log_if_dropped(self, reason: str) -> None:
        """Log once that the BS is not used: at the first failure if it was never reached, else when it is dropped."""
        if not self.logged_unreachable and (self.health.dropped or not self.was_reached):
            fields = {"station": self.name, "reason": reason}
            log.warning("%s at %s is not used: %s", self.name, self.client.base_url, reason, extra=fields)
            self.logged_unreachable = True

    def _log_if_reached(self) -> None:
        self.was_reached = True
        if self.logged_unreachable and not self.health.dropped:
            log.warning("%s at %s is used now", self.name, self.client.base_url, extra={"station": self.name})
            self.logged_unreachable = False


def update_rate(bps: float, newest_bps: float) -> float:
    """A link's rate after one more measurement: an exponential average of seconds per bit."""
    return 1.0 / ((1.0 - NEWEST_WEIGHT) / bps + NEWEST_WEIGHT / newest_bps)
