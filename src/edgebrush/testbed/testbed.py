"""The whole system on one machine, living through an episode of the simulator: BS servers, UE agents, and links.

Every BS is an `edgebrush serve`, every UE an `edgebrush ue`, each a process as slow as the scenario's hardware, with
links between them that are shaped in user space (link.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from edgebrush.api.schema import IMAGES_PATH
from edgebrush.errors import UserError
from edgebrush.scenario.expand import bs_names, expand_bss
from edgebrush.scenario.schema import Bs

from .episode import Arrival, Episode
from .links import Band, Link
from .processes import Process, together

SETTLE_S = 0.5  # between the last process being ready and the episode's start
DRAIN_S = 300.0  # for the tasks that are open when the last one has come
AGAIN_S = 0.1  # until an agent that is away is asked again
ENDS = (200, 502, 504)  # of an agent's task: an image, no place could make it, its deadline had passed
MOST_CONNECTIONS = 400  # that `edgebrush serve` allows


class Testbed:
    """BSs, UEs and links of an episode, its UEs deciding by ``policy``; logs and journals go to ``folder``.

    ``source`` is the scenario as `edgebrush ue` takes it.
    """

    __test__ = False  # no test class, whatever its name

    def __init__(self, source: str, episode: Episode, policy: str, folder: Path):
        self.episode, self.folder = episode, folder
        self.names = bs_names(episode.scenario)
        bss = expand_bss(episode.scenario)
        self.bss = [self._bs(name, bs) for name, (bs, _) in zip(self.names, bss, strict=True)]
        self.ues = [self._ue(ue, source, policy) for ue in range(episode.scenario.ue_count)]
        self.links: dict[tuple[int, int], Link] = {}
        self.start_s = 0.0  # of the episode, on the monotonic clock
        self.latest_s = 0.0  # how much later than it should have come a task was asked for, at most

    def _bs(self, name: str, bs: Bs) -> Process:
        directory, grid = self.episode.scenario.directory, self.episode.scenario.decision.step_grid
        profile = str((directory / bs.profile).absolute()) if bs.profile.endswith(".json") else bs.profile
        options = {
            "name": name,
            "port": 0,
            "profile": profile,
            "speed": bs.speed,
            "batch-limit": bs.batch_limit,
            "queue-limit": bs.queue_limit,
            "connection-limit": min(bs.connection_limit, MOST_CONNECTIONS),
            "max-steps": grid[-1],
            "grace": 0,
        }
        return Process(name, ["serve", *flags(options)], self.folder / f"{name}.log")

    def _ue(self, ue: int, source: str, policy: str) -> Process:
        name = f"ue-{ue + 1}"
        options = {
            "ue": ue + 1,
            "policy": policy,
            "port": 0,
            "journal": self.folder / name,
            "battery": self.episode.battery_levels[ue],
        }
        return Process(name, ["ue", source, "--paced", *flags(options)], self.folder / f"{name}.log")

    @property
    def journals(self) -> list[Path]:
        return [self.folder / ue.name for ue in self.ues]

    async def __aenter__(self) -> Testbed:
        """Bring all up, ready. Raises ``UserError`` where a process does not start."""
        try:
            await together(bs.start() for bs in self.bss)
            await self._open_links()
            await together(ue.start() for ue in self.ues)
            await self._until_ready()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(process.stop() for process in (*self.ues, *self.bss)))
        await asyncio.gather(*(link.close() for link in self.links.values()))

    async def _open_links(self) -> None:
        episode = self.episode
        bands = [(Band(episode.uplink(bs)), Band(episode.downlink(bs))) for bs in range(len(self.bss))]
        for ue, neighbours in enumerate(episode.neighbours):
            for bs in neighbours:
                address = urlsplit(self.bss[bs].url)
                link = Link(ue, *bands[bs], (str(address.hostname), int(address.port or 0)))
                await link.open()
                self.links[ue, bs] = link
                self.ues[ue].arguments += ["--station", f"{self.names[bs]}={link.url}"]

    async def _until_ready(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            for process in (*self.bss, *self.ues):
                while (await client.get(f"{process.url}/readyz")).status_code != 200:
                    await asyncio.sleep(0.02)

    async def play(self, on_end: Callable[[Arrival], None] = lambda arrival: None) -> None:
        """Ask for every task at its time, and wait until the last one has ended.

        Raises ``TimeoutError`` where that takes longer than it can, ``UserError`` where an agent takes no tasks.
        """
        self.start_s = time.monotonic() + SETTLE_S
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with (
            httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as client,
            asyncio.timeout(self.episode.seconds + DRAIN_S),
        ):
            await together(self._live_through(arrival, client, on_end) for arrival in self.episode.arrivals)

    async def _live_through(
        self, arrival: Arrival, client: httpx.AsyncClient, on_end: Callable[[Arrival], None]
    ) -> None:
        await asyncio.sleep(self.start_s + arrival.at_s - time.monotonic())
        self.latest_s = max(self.latest_s, time.monotonic() - self.start_s - arrival.at_s)
        reply = await self.ask(arrival, client)
        if reply.status_code not in ENDS:
            raise UserError(f"{self.ues[arrival.ue].name} refused {arrival.key}: {reply.text[:300]}")
        on_end(arrival)

    async def ask(self, arrival: Arrival, client: httpx.AsyncClient) -> httpx.Response:
        """Ask an arrival's UE for its image, and where the agent goes away, the next agent for the same one."""
        body = {
            "prompt": arrival.prompt,
            "seed": arrival.seed,
            "request": self.episode.scenario.requests[arrival.request].name,
        }
        while True:
            with contextlib.suppress(httpx.TransportError):
                return await client.post(
                    self.ues[arrival.ue].url + IMAGES_PATH, json=body, headers={"idempotency-key": arrival.key}
                )
            await asyncio.sleep(AGAIN_S)


def flags(options: dict[str, object]) -> list[str]:
    """Options of the command line."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]
