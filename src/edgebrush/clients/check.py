"""Checks a server before it is used: what works there, what it ignores, and what a request costs."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO

import httpx2
import numpy as np
from PIL import Image

from edgebrush.journal.records import Task
from edgebrush.scenario.schema import Endpoint, EndpointKind

from .client import EXCHANGE_ERRORS, Exchange, ImagesClient
from .dialects import SEED, STEPS
from .guess import guess_kind, list_models
from .offload import Offload
from .reasons import reason_of, reason_of_status
from .replies import Reply, parse_reply

PROMPT = "sneaker"  # a class of the shipped models; other models take any text, or have their own classes
SEED_SENT = 1
ROUND_TRIPS = 5
PAGE_TIMEOUT_S, IMAGE_TIMEOUT_S = 5.0, 120.0  # a server may load its model for the first image
SLOWER, AS_FAST = 1.25, 1.1  # ratio of times from which more steps were made, and up to which they were not
SAME_LEVELS = 1.0  # mean difference of two pictures, of 255 levels: GPUs do not repeat themselves exactly
MIN_BODY_BYTES, MIN_BODY_S = 2**16, 1e-3  # a smaller body arrives with its headers, which measures no rate


@dataclass(frozen=True)
class MadeImage:
    """What one image cost: steps asked for, seconds in all and as the server states them (0: none), bytes, pixels."""

    steps: int
    seconds: float
    server_s: float
    reply_bytes: int
    width: int
    height: int


@dataclass(frozen=True)
class ServerCheck:
    """What a check found out. None stands for what could not be found out.

    ``problem`` states why the server cannot be used, with what to do; it is empty where it can. ``kind`` is the dialect
    that it was asked in, ``looks_like`` what its pages look like. ``round_trip_s`` is the fastest answer of a page,
    ``bytes_per_s`` the rate from the server. ``few`` and ``more`` are images with fewer and more steps.
    """

    base_url: str
    kind: EndpointKind
    problem: str = ""
    reachable: bool = False
    looks_like: EndpointKind | None = None
    models: tuple[str, ...] = ()
    tasks_there: float | None = None  # that the server reports now; None where its load is inferred
    load_problem: str = ""  # why a load that this kind of server reports cannot be read
    round_trip_s: float | None = None
    bytes_per_s: float | None = None
    few: MadeImage | None = None
    more: MadeImage | None = None
    size_px: int = 0  # that was asked for
    steps_honoured: bool | None = None
    steps_evidence: str = ""
    seed_repeats: bool | None = None  # whether the same seed made the same picture
    not_sent: tuple[str, ...] = ()  # settings of a task that this kind of server does not take

    @property
    def usable(self) -> bool:
        return not self.problem

    @property
    def size_honoured(self) -> bool | None:
        return None if self.few is None else self.few.width == self.few.height == self.size_px


async def check_server(
    endpoint: Endpoint,
    size_px: int,
    steps: tuple[int, int],
    prompt: str = PROMPT,
    *,
    key: str | None = None,
    trust: ssl.SSLContext | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> ServerCheck:
    """Ask a server for its models, its load and three images, in the dialect of ``endpoint.kind``.

    The images have a side of ``size_px``; two have the first number of ``steps``, one the second. Without a kind, ask
    ``guess_kind`` first. Does not raise for what a server does: see ``ServerCheck.problem``.
    """
    client = ImagesClient(endpoint, size_px, key, transport, clock, trust)
    found = ServerCheck(client.base_url, endpoint.kind, size_px=size_px, not_sent=tuple(client.dialect.ignores))
    try:
        found = await check_pages(client, found)
        return found if found.problem else await check_images(client, found, steps, prompt)
    finally:
        await client.close()


async def check_pages(client: ImagesClient, found: ServerCheck) -> ServerCheck:
    """Whether the server is reached and lets this client in; its kind, models, load and round trip."""
    try:
        async with asyncio.timeout(PAGE_TIMEOUT_S):
            pages = [await client.get_load() for _ in range(ROUND_TRIPS)]
            looks_like = await guess_kind(client)
            models = [str(model.get("id")) for model in await list_models(client)]
    except EXCHANGE_ERRORS as error:
        return replace(found, problem=reason_of(error))
    found = replace(
        found,
        reachable=True,
        looks_like=looks_like,
        models=tuple(models),
        round_trip_s=min(page.seconds for page in pages),
    )
    status = pages[-1].response.status_code
    if status in (401, 403):
        return replace(found, problem=reason_of_status(status))
    if client.is_edgebrush and looks_like != "edgebrush":
        likely = looks_like or "openai"
        return replace(found, problem=f"it is no `edgebrush serve`; give endpoint.kind in the scenario: {likely}")
    return read_load(client, pages[-1], found)


def read_load(client: ImagesClient, page: Exchange, found: ServerCheck) -> ServerCheck:
    """The load on the polled page, of a kind of server that reports it."""
    if not client.dialect.reports_load:
        return found
    try:
        if page.response.status_code != 200:
            raise ValueError(f"status {page.response.status_code}")
        load = client.dialect.read_load(page.body, 0.0, 1, 1.0)
    except ValueError as error:
        return replace(found, load_problem=f"{client.load_url}: {error}")
    return replace(found, tasks_there=float(load.connections))


async def check_images(client: ImagesClient, found: ServerCheck, steps: tuple[int, int], prompt: str) -> ServerCheck:
    """Whether images are made, with the steps, the seed and the size that are asked for; what they cost."""
    made = []
    try:
        for count in (steps[0], steps[1], steps[0]):  # the first one may have to wait for the model
            made.append(await make_image(client, prompt, count))
    except EXCHANGE_ERRORS as error:
        return replace(found, problem=f"no image: {reason_of(error)}")
    first, more, few = made
    same_seed = pictures_differ(first.reply, few.reply) <= SAME_LEVELS
    honoured, evidence = steps_made(few, more, same_seed)
    if STEPS not in client.dialect.fields:
        honoured, evidence = False, "it takes no steps"
    return replace(
        found,
        few=few.summary,
        more=more.summary,
        steps_honoured=honoured,
        steps_evidence=evidence,
        seed_repeats=same_seed if SEED in client.dialect.fields else None,
        bytes_per_s=max((rate for rate in map(rate_of, made) if rate), default=None),
    )


@dataclass(frozen=True)
class Probe:
    """An image of a check, and the exchange that brought it."""

    steps: int
    exchange: Exchange
    reply: Reply

    @property
    def summary(self) -> MadeImage:
        width, height = pixels(self.reply).shape[:2][::-1]
        server_s = self.exchange.server_s or self.reply.compute_s
        return MadeImage(self.steps, self.exchange.seconds, server_s, len(self.exchange.body), width, height)


async def make_image(client: ImagesClient, prompt: str, steps: int) -> Probe:
    """Request one image. Raises as ``ImagesClient.post`` does, and ``TimeoutError``."""
    async with asyncio.timeout(IMAGE_TIMEOUT_S):
        exchange = await client.post(probe_offload(prompt, steps))
    return Probe(steps, exchange, parse_reply(exchange.body))


def probe_offload(prompt: str, steps: int) -> Offload:
    """What a check asks for: an image of class 0, without a deadline."""
    return Offload(Task("check", prompt, "check", SEED_SENT), steps, 0, 0.0, 0.0, None)


def steps_made(few: Probe, more: Probe, same_seed: bool) -> tuple[bool | None, str]:
    """Whether more steps were made where more were asked for, and how that shows.

    By what the server states, else by the pictures (where the same seed repeats a picture, another number of steps must
    change it), else by the time.
    """
    if few.reply.steps and more.reply.steps:
        stated = f"{few.reply.steps} and {more.reply.steps}"
        return (few.reply.steps, more.reply.steps) == (few.steps, more.steps), f"it states {stated} steps"
    if same_seed:
        differ = pictures_differ(few.reply, more.reply) > SAME_LEVELS
        return differ, "the pictures differ" if differ else "the pictures are the same"
    ratio = more.exchange.seconds / max(few.exchange.seconds, 1e-9)
    evidence = f"{more.steps} steps took {ratio:.2g} times as long as {few.steps}"
    if AS_FAST < ratio < SLOWER:
        return None, evidence
    return ratio >= SLOWER, evidence


def pictures_differ(one: Reply, other: Reply) -> float:
    """The mean difference of two pictures in levels of 255; infinite where their sizes differ."""
    first, second = pixels(one), pixels(other)
    return float(np.abs(first - second).mean()) if first.shape == second.shape else float("inf")


def pixels(reply: Reply) -> np.ndarray:
    """(height, width, 3) levels."""
    with Image.open(BytesIO(reply.image)) as image:
        return np.asarray(image.convert("RGB"), float)


def rate_of(probe: Probe) -> float | None:
    """Bytes per second from the server: without the seconds that it states, or while a large body arrived."""
    exchange = probe.exchange
    size = len(exchange.body)
    if exchange.server_s is not None and exchange.seconds > exchange.server_s:
        return size / (exchange.seconds - exchange.server_s)
    return size / exchange.body_s if size >= MIN_BODY_BYTES and exchange.body_s >= MIN_BODY_S else None


def probe_steps(grid: Sequence[int]) -> tuple[int, int]:
    """Two numbers of steps to tell apart, of a scenario's grid: the fewest, and four times as many or close to it.

    Where the grid has too few, its largest one and a quarter of it: more of them could be too many for the server.
    """
    few, most = grid[0], grid[-1]
    if most >= 2 * few:
        return few, next((steps for steps in grid if steps >= 4 * few), most)
    return max(1, most // 4), max(most, 4)
