"""The testbed: BS servers, UE agents and shaped links on one machine, which replay a simulator episode.

Every BS is an `edgebrush serve` process and every UE an `edgebrush ue` process, paced to the scenario's hardware. The
links between them are emulated in this process (links.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from edgebrush.api.schema import IMAGES_PATH
from edgebrush.errors import UserError
from edgebrush.scenario.expand import bs_names, expand_bss
from edgebrush.scenario.schema import Bs

from .episode import Episode, EpisodeTask
from .links import Band, Link
from .processes import POLL_S, Process, run_all

SETTLE_S = 0.5  # from the last process being ready to the episode's start
DRAIN_S = 300.0  # for the tasks that are open at the end of the arrivals
RETRY_S = 0.1  # until the next request to an agent that does not answer
FINAL_STATUSES = (200, 429, 502, 504)  # an image; all places are full; none could make it; its deadline has passed
KEEP_ALL = 10**9  # tasks in an agent's journal
MAX_CONNECTIONS = 400  # the highest limit that `edgebrush serve` accepts


class Testbed:
    """The processes and links of an episode whose UEs decide by ``policy``. Logs and journals go to ``folder``.

    ``source`` is the scenario's name or file, as for `edgebrush ue`. Use as an async context manager.
    """

    __test__ = False  # pytest: not a test class

    def __init__(self, source: str, episode: Episode, policy: str, folder: Path):
        self.episode, self.folder = episode, folder
        self.names = bs_names(episode.scenario)
        bss = expand_bss(episode.scenario)
        self.bss = [self._bs_process(name, bs) for name, (bs, _) in zip(self.names, bss, strict=True)]
        self.ues = [self._ue_process(ue, source, policy) for ue in range(episode.scenario.ue_count)]
        self.links: dict[tuple[int, int], Link] = {}  # by (UE, BS)
        self.start_s = 0.0  # of the episode, on the monotonic clock
        self.lateness_s: list[float] = []  # of each request behind its scheduled time

    def _bs_process(self, name: str, bs: Bs) -> Process:
        directory, grid = self.episode.scenario.directory, self.episode.scenario.decision.step_grid
        profile = str((directory / bs.profile).absolute()) if bs.profile.endswith(".json") else bs.profile
        options = {
            "name": name,
            "port": 0,
            "profile": profile,
            "speed": bs.speed,
            "batch-limit": bs.batch_limit,
            "queue-limit": bs.queue_limit,
            "connection-limit": min(bs.connection_limit, MAX_CONNECTIONS),
            "max-steps": grid[-1],
            "grace": 0,
        }
        return Process(name, ["serve", *_to_arguments(options)], self.folder / f"{name}.log")

    def _ue_process(self, ue: int, source: str, policy: str) -> Process:
        name = f"ue-{ue + 1}"
        options = {
            "ue": ue + 1,
            "policy": policy,
            "port": 0,
            "journal": self.folder / name,
            "keep-tasks": KEEP_ALL,
            "battery": self.episode.battery_levels[ue],
        }
        return Process(name, ["ue", source, "--paced", *_to_arguments(options)], self.folder / f"{name}.log")

    @property
    def journals(self) -> list[Path]:
        """The agents' journal folders, by UE."""
        return [self.folder / ue.name for ue in self.ues]

    async def __aenter__(self) -> Testbed:
        """Start all processes and links and wait until they are ready. Raises ``UserError`` if one does not start."""
        try:
            await run_all(bs.start() for bs in self.bss)
            await self._open_links()
            await run_all(ue.start() for ue in self.ues)
            await self._wait_until_ready()
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
                latency_s = float(episode.params.bs[bs]["latency_s"])
                link = Link(ue, *bands[bs], (str(address.hostname), int(address.port or 0)), latency_s)
                await link.open()
                self.links[ue, bs] = link
                self.ues[ue].arguments += ["--station", f"{self.names[bs]}={link.url}"]

    async def _wait_until_ready(self) -> None:
        async with httpx2.AsyncClient(trust_env=False) as client:
            for process in (*self.bss, *self.ues):
                while (await client.get(f"{process.url}/readyz")).status_code != 200:
                    await asyncio.sleep(POLL_S)

    async def metrics(self) -> list[str]:
        """The BSs' metrics in Prometheus' text format."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            return [(await client.get(f"{bs.url}/metrics")).text for bs in self.bss]

    async def play(self, on_end: Callable[[EpisodeTask], None] = lambda task: None) -> None:
        """Request every task at its time, and wait until the last one has ended.

        Raises ``TimeoutError`` if tasks are open ``DRAIN_S`` after the arrivals, ``UserError`` if an agent refuses one.
        """
        self.start_s = time.monotonic() + SETTLE_S
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        async with (
            httpx2.AsyncClient(timeout=None, limits=limits, trust_env=False) as client,
            asyncio.timeout(self.episode.seconds + DRAIN_S),
        ):
            await run_all(self._run_task(task, client, on_end) for task in self.episode.tasks)

    async def _run_task(
        self, task: EpisodeTask, client: httpx2.AsyncClient, on_end: Callable[[EpisodeTask], None]
    ) -> None:
        await asyncio.sleep(self.start_s + task.at_s - time.monotonic())
        self.lateness_s.append(time.monotonic() - self.start_s - task.at_s)
        response = await self._request_image(task, client)
        if response.status_code not in FINAL_STATUSES:
            raise UserError(f"{self.ues[task.ue].name} refused {task.key}: {response.text[:300]}")
        on_end(task)

    async def _request_image(self, task: EpisodeTask, client: httpx2.AsyncClient) -> httpx2.Response:
        """Request a task's image from its UE. While the agent is down, repeat with the same idempotency key."""
        body = {
            "prompt": task.prompt,
            "seed": task.seed,
            "request": self.episode.scenario.requests[task.request].name,
        }
        while True:
            with contextlib.suppress(httpx2.TransportError):
                return await client.post(
                    self.ues[task.ue].url + IMAGES_PATH, json=body, headers={"idempotency-key": task.key}
                )
            await asyncio.sleep(RETRY_S)


def _to_arguments(options: dict[str, object]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]
