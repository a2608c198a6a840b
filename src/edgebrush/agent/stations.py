"""A BS as its UE sees it: where it sends a task, what it measures on the way, and where it reads the BS's load.

A BS is one of ours, or any server that speaks the plain OpenAI images API (``Endpoint`` in the scenario). Plain servers
get only the fields that they know; their load is read from Prometheus metrics, or inferred from one's own round trips.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from edgebrush.api.schema import Load
from edgebrush.errors import UserError
from edgebrush.scenario.expand import bs_names, expand_bss
from edgebrush.scenario.schema import Endpoint

from .journal import Task
from .observer import Board, Known, Observer

CONNECT_S = 2.0  # a BS that takes longer to answer a connection is not there
POLL_S = 2.0  # for an answer to a question about the load
SHORTEST_POLL_S = 0.05  # where the scenario wants the load always fresh
AWAY_S = 5.0  # a BS that failed is left alone for so long, where no broadcast tells that it is back
TASKS_FAULT = (400, 404, 409, 413, 422, 504)  # statuses that speak against the task, not against the BS
LONGEST_AWAY_S = 60.0  # whatever Retry-After says
MEMORY_S = 10.0  # after which what was inferred of a load is mostly forgotten
NEWEST = 0.2  # weight of the newest measurement in an exponential average
HEAD_BYTES = 400  # of a question and its answer together, beside the answer's body
MAX_REPLY_BYTES = 64 * 2**20
FIRST_BPS = 1e3  # of a link that nothing has been measured on
FIRST_ASKS = 5  # the best of these guesses the rates, until an image has measured them
PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")  # PNG, JPEG, WebP

log = logging.getLogger(__name__)


class StationError(Exception):
    """The BS did not make the image, and why.

    It is to be left alone for ``quiet_s`` seconds: until it is heard of again, or, where it ``asked``, to their end.
    """

    def __init__(self, reason: str, quiet_s: float = AWAY_S, asked: bool = False):
        super().__init__(reason)
        self.quiet_s, self.asked = quiet_s, asked


@dataclass(frozen=True)
class Assignment:
    """What a task asks of a BS, after the decision; bits as the scenario has them."""

    task: Task
    steps: int
    service_class: int
    bits_in: float
    bits_out: float
    deadline_s: float | None  # from now


@dataclass(frozen=True)
class Made:
    """A BS's image, and the seconds of its way: up, on the server in all (of which queueing and computing), down."""

    image: bytes
    up_s: float
    server_s: float
    down_s: float
    queue_s: float
    compute_s: float
    energy_j: float


@dataclass(frozen=True)
class Server:
    """What a BS's profile says of it, as ``BS_PARAMS`` in sim/tables.py, and the size of its images."""

    fixed_s: float
    alpha_s: float
    beta_s: float
    batch_limit: int
    size_px: int


class RemoteStation:
    """One BS: ``known`` is what the UE knows of it. Times are on ``clock``, monotonic."""

    def __init__(
        self,
        name: str,
        number: int,
        endpoint: Endpoint,
        server: Server,
        classes: int,
        key: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.name, self.endpoint, self.server, self.clock, self.classes = name, endpoint, server, clock, classes
        self.known = Known(number, Board.empty(clock(), classes), FIRST_BPS, FIRST_BPS)
        self.first_asks = FIRST_ASKS  # left, whose round trips guess the link's rates
        self.away_until, self.left_alone_until = -math.inf, -math.inf
        self.readable = True  # whether the last answer about the load was
        self.mean_steps = 15.0  # of one's own tasks there
        self.base_url = endpoint.base_url.rstrip("/")
        self.client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(None, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=2.0),
            trust_env=False,
        )

    @property
    def ours(self) -> bool:
        """Whether it is an ``edgebrush serve``, which knows all fields and tells its load."""
        return self.endpoint.load == "edgebrush"

    @property
    def away(self) -> bool:
        """Whether it failed, or asked to be left alone, so lately that it is not to be asked."""
        return self.clock() < max(self.away_until, self.left_alone_until)

    async def close(self) -> None:
        await self.client.aclose()

    # -- a task

    async def make(self, sent: Assignment, patience_s: float) -> Made:
        """Send a task and wait for its image. Raises ``StationError``; the connection then is closed."""
        self.known.in_flight += 1
        try:
            async with asyncio.timeout(patience_s):
                made = await self._exchange(sent)
        except TimeoutError:
            raise self._failed(StationError(f"no image after {patience_s:.3g} s")) from None
        except httpx.HTTPError as error:
            raise self._failed(StationError(f"{type(error).__name__}: {error}".rstrip(": "))) from None
        except StationError as error:
            raise self._failed(error) from None
        finally:
            self.known.in_flight -= 1
        self._learn(sent, made)
        return made

    async def _exchange(self, sent: Assignment) -> Made:
        start = self.clock()
        async with self.client.stream("POST", f"{self.base_url}/images/generations", json=self.body(sent)) as reply:
            body = await read_all(reply)
        total_s = self.clock() - start
        if reply.status_code != 200:
            raise refusal(reply, body)
        said = parse(body)
        queue_s, compute_s = seconds_of(said, "queue_s"), seconds_of(said, "compute_s")
        expected_s = sent.bits_in / self.known.up_bps + sent.bits_out / self.known.down_bps
        travel_s = max(total_s - queue_s - compute_s, 1e-4) if self.ours else min(expected_s, total_s)
        up_s = travel_s * (sent.bits_in / self.known.up_bps) / expected_s
        return Made(
            picture_of(said),
            up_s,
            total_s - travel_s,
            travel_s - up_s,
            queue_s,
            compute_s,
            seconds_of(said, "energy_j"),
        )

    def body(self, sent: Assignment) -> dict[str, Any]:
        """The request: OpenAI's fields, and more only for those who know them."""
        task, endpoint, size_px = sent.task, self.endpoint, self.server.size_px
        body: dict[str, Any] = {
            "prompt": task.prompt,
            "n": 1,
            "size": f"{size_px}x{size_px}",
            "response_format": "b64_json",
        }
        if endpoint.model is not None:
            body["model"] = endpoint.model
        if endpoint.steps_field is not None:
            body[endpoint.steps_field] = sent.steps
        if self.ours:
            body |= {"num_inference_steps": sent.steps, "seed": task.seed, "service_class": sent.service_class}
            if task.negative:
                body["negative_prompt"] = task.negative
            if task.guidance != 1.0:
                body["guidance_scale"] = task.guidance
            if sent.deadline_s is not None:
                body["deadline_s"] = sent.deadline_s
        return body

    def _failed(self, error: StationError) -> StationError:
        """Note how long to leave it alone; the error with the BS's name."""
        until = self.clock() + error.quiet_s
        if error.asked:
            self.left_alone_until = until
        else:
            self.away_until = until
        return StationError(f"{self.name}: {error}", error.quiet_s, error.asked)

    def _learn(self, sent: Assignment, made: Made) -> None:
        """The link's rates from what the way took beyond the server; the load, where nobody tells it."""
        self.away_until = -math.inf
        self.mean_steps += NEWEST * (sent.steps - self.mean_steps)
        known = self.known
        if self.ours:
            self.first_asks = 0
            known.up_bps = averaged(known.up_bps, sent.bits_in / made.up_s)
            known.down_bps = averaged(known.down_bps, sent.bits_out / made.down_s)
        if self.endpoint.load == "none":
            known.board = inferred(self.server, made.server_s, sent.steps, self.clock(), self.classes)

    # -- the load

    async def listen(self, interval_s: float) -> None:
        """Ask for the load every so many seconds, for ever; an answer also tells that a BS is back."""
        while True:
            due = self.clock() + max(interval_s, SHORTEST_POLL_S)
            await self.ask()
            await asyncio.sleep(max(0.0, due - self.clock()))

    async def ask(self) -> None:
        """Ask for the load once. Whatever answers is there; what cannot be read as a load leaves the last one."""
        start = self.clock()
        try:
            async with asyncio.timeout(POLL_S), self.client.stream("GET", self.load_url) as reply:
                body = await read_all(reply)
        except (TimeoutError, httpx.HTTPError, StationError):
            self.away_until = self.clock() + AWAY_S
            return
        self._guess_rates(8 * (HEAD_BYTES + len(body)), self.clock() - start)
        if self.away_until < start + AWAY_S:  # else it failed since the question was asked
            self.away_until = -math.inf
        if self.endpoint.load != "none":
            try:
                self.known.board = self.board_of(body, start)
            except ValueError as error:
                if self.readable:
                    log.warning("%s: its load cannot be read at %s: %s", self.name, self.load_url, error)
                self.readable = False
            else:
                self.readable = True

    @property
    def load_url(self) -> str:
        """Where the load is told; for a server that tells none, a page whose round trip still measures the link."""
        if self.ours:
            return f"{self.base_url}/load"
        if self.endpoint.load == "prometheus":
            address = urlsplit(self.base_url)
            return self.endpoint.metrics_url or f"{address.scheme}://{address.netloc}/metrics"
        return f"{self.base_url}/models"

    def board_of(self, body: bytes, now: float) -> Board:
        """The board that an answer says; as old as its question, to be on the safe side. Raises ``ValueError``."""
        if self.ours:
            said = Load.model_validate_json(body)
            waiting, steps = said.waiting[: self.classes], said.waiting_steps[: self.classes]
            if len(waiting) < self.classes or len(steps) < self.classes:
                raise ValueError(f"{self.name} tells of {len(waiting)} classes, the scenario has {self.classes}")
            return Board(now, said.running, said.steps_left, said.connections, waiting, steps)
        text, mean_steps = body.decode("utf-8", "replace"), self.mean_steps
        running_now = gauge(text, self.endpoint.running_metric or "")
        waiting_now = gauge(text, self.endpoint.waiting_metric or "")
        return in_line(now, running_now, 0.5 * mean_steps * running_now, waiting_now, mean_steps, self.classes)

    def seen(self, now: float) -> Known:
        """What is known of the BS now: an inferred load fades, and holds at least one's own tasks."""
        if self.endpoint.load != "none":
            return self.known
        board, faded = self.known.board, math.exp(-(now - self.known.board.time) / MEMORY_S)
        running = max(board.running * faded, min(self.known.in_flight, self.server.batch_limit))
        waiting = max(board.waiting[0] * faded, self.known.in_flight - self.server.batch_limit, 0.0)
        steps = self.mean_steps
        faded_board = in_line(board.time, running, 0.5 * steps * running, waiting, steps, self.classes)
        return replace(self.known, board=faded_board)

    def _guess_rates(self, bits: float, rtt_s: float) -> None:
        """A guess of both rates by the round trips of the first questions, as if they were all transfer."""
        if self.first_asks > 0:
            self.first_asks -= 1
            self.known.up_bps = self.known.down_bps = max(self.known.up_bps, bits / max(rtt_s, 1e-4))


def remote_stations(observer: Observer, urls: Mapping[str, str]) -> list[RemoteStation]:
    """The BSs that a UE considers, in the scenario's order: those with an address, by ``urls`` or in the scenario.

    Raises ``UserError`` for a name that the scenario has not, too many BSs, or a key that is not in the environment.
    """
    scenario, shape = observer.scenario, observer.layout.shape
    names = bs_names(scenario)
    for name in urls:
        if name not in names:
            raise UserError(f"station = {name!r}: {scenario.name} has {', '.join(names)}")
    stations = []
    for number, ((bs, profile), name) in enumerate(zip(expand_bss(scenario), names, strict=True)):
        endpoint = bs.endpoint
        if name in urls:
            check_address(name, urls[name])
            base_url = f"{urls[name].rstrip('/')}/v1"
            endpoint = endpoint.model_copy(update={"base_url": base_url}) if endpoint else Endpoint(base_url=base_url)
        if endpoint is None:
            continue
        row = observer.bss[number]
        server = Server(
            float(row["encode_s"] + row["decode_s"]),
            float(row["alpha_s"]),
            float(row["beta_s"]),
            bs.batch_limit,
            profile.resolution_px,
        )
        station = RemoteStation(name, number, endpoint, server, shape.classes, key_of(endpoint))
        check_address(name, station.load_url)
        stations.append(station)
    if len(stations) > shape.slots - 1:
        raise UserError(
            f"station: {len(stations)} given, but a UE of {scenario.name} considers {shape.slots - 1} "
            "(decision.neighbours); give those that it reaches best"
        )
    return stations


def check_address(name: str, url: str) -> None:
    """Raises ``UserError`` where nothing can be sent to such a URL."""
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UserError(f"station = {name}={url}: {error}; give http://HOST:PORT") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise UserError(f"station = {name}={url}: not an address; give http://HOST:PORT")


def key_of(endpoint: Endpoint) -> str | None:
    """The server's key, from the environment. Raises ``UserError`` where it is not there."""
    if endpoint.api_key_env is None:
        return None
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise UserError(f"api_key_env = {endpoint.api_key_env!r}: no such key in the environment; export it")
    return key


def averaged(bps: float, newest_bps: float) -> float:
    """A link's rate after one more measurement: seconds per bit are averaged, since they are what a task waits for."""
    return 1.0 / ((1.0 - NEWEST) / bps + NEWEST / newest_bps)


def inferred(server: Server, server_s: float, steps: int, now: float, classes: int) -> Board:
    """The load that would have made a task of so many steps take ``server_s``.

    Up to a full batch, the batch that makes rounds as long as they were; beyond, tasks that waited before it.
    """
    round_s = max(server_s - server.fixed_s, 0.0) / steps
    batch = (round_s - server.alpha_s) / server.beta_s
    running = float(np.clip(batch, 1.0, server.batch_limit))
    full_s = server.fixed_s + steps * (server.alpha_s + server.beta_s * server.batch_limit)
    waited_s = max(server_s - full_s, 0.0)
    waiting = waited_s / (full_s / server.batch_limit)
    return in_line(now, running, 0.5 * steps * running, waiting, steps, classes)


def in_line(now: float, running: float, steps_left: float, waiting: float, steps: float, classes: int) -> Board:
    """The board of a server that knows no classes: whoever comes waits behind all who wait, as if they were first."""
    rest = [0.0] * (classes - 1)
    return Board(now, running, steps_left, running + waiting, [waiting, *rest], [waiting * steps, *rest])


def gauge(text: str, name: str) -> float:
    """The sum over the labels of a metric in Prometheus' text format. Raises ``ValueError`` where it is missing."""
    found = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    value = math.fsum(float(line.rpartition("}")[2].split()[0 if "}" in line else 1]) for line in found)
    if not found or not 0 <= value < math.inf:
        raise ValueError(f"metric {name}: {value if found else 'missing'}")
    return value


async def read_all(reply: httpx.Response) -> bytes:
    """The whole body. Raises ``StationError`` where it is larger than any picture should be."""
    parts, size = [], 0
    async for part in reply.aiter_bytes():
        size += len(part)
        if size > MAX_REPLY_BYTES:
            raise StationError(f"its answer is larger than {MAX_REPLY_BYTES // 2**20} MiB")
        parts.append(part)
    return b"".join(parts)


def refusal(reply: httpx.Response, body: bytes) -> StationError:
    """What an answer other than 200 means."""
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = body[:80].decode("utf-8", "replace")
    reason = f"status {reply.status_code}: {message[:200]}"
    if reply.status_code in (429, 503):
        try:
            quiet_s = float(reply.headers["retry-after"])
        except (KeyError, ValueError):  # none, or a date
            return StationError(reason)
        return StationError(reason, min(max(quiet_s, 0.0), LONGEST_AWAY_S), asked=True)
    return StationError(reason, 0.0 if reply.status_code in TASKS_FAULT else AWAY_S)


def parse(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise StationError("its answer is not JSON") from None
    if not isinstance(said, dict):
        raise StationError("its answer is not a JSON object")
    return said


def picture_of(said: dict[str, Any]) -> bytes:
    """The picture file in an answer. Raises ``StationError`` where there is none."""
    try:
        picture = base64.b64decode(said["data"][0]["b64_json"], validate=True)
    except (KeyError, IndexError, TypeError, ValueError, binascii.Error):
        raise StationError("its answer holds no picture under data[0].b64_json") from None
    if not picture.startswith(PICTURES):
        raise StationError("what its answer holds is neither PNG, JPEG nor WebP")
    return picture


def seconds_of(said: dict[str, Any], name: str) -> float:
    """A number that an answer may hold, 0 where it does not or it cannot be."""
    value = said.get(name)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) and value >= 0 else 0.0
