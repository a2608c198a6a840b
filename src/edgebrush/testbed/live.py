"""The live page: UEs, BSs and images of a testbed at work, sent to browsers on this machine as server-sent events."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, format_sse_event

from edgebrush.agent.agent import OWN
from edgebrush.agent.journal import IMAGES, TASKS
from edgebrush.api.schema import LOAD_PATH
from edgebrush.api.server import Address, Server

from .testbed import Testbed

PAGE = Path(__file__).with_name("live.html")
INTERVAL_S = 0.2
LOAD_S = 0.5  # for a BS to tell its load
KEPT_IMAGES = 120  # for whoever comes later


class LiveServer(Server):
    """A server among other work, which leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


class Tail:
    """The lines that a growing journal has gained."""

    def __init__(self, folder: Path):
        self.folder, self.read = folder, 0

    def lines(self) -> list[dict[str, Any]]:
        path = self.folder / TASKS
        if not path.is_file():
            return []
        with open(path, "rb") as file:
            file.seek(self.read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self.read += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines()]


class Live:
    """The page's server at ``url``; of each round it watches the journals and asks the BSs for their load."""

    def __init__(self, port: int):
        self.readers: set[asyncio.Queue[bytes]] = set()
        self.images: deque[bytes] = deque(maxlen=KEPT_IMAGES)
        self.state = event("state", {"policy": "", "ues": [], "bss": []})
        self.server = LiveServer(self._app(), Address(port=port), 0, lambda: None, self._hang_up)
        self.url = self.server.url
        self.serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Live:
        self.serving = asyncio.create_task(self.server.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.should_exit = True
        if self.serving:
            await self.serving

    def _hang_up(self) -> None:
        self.tell(b"")

    def _app(self) -> FastAPI:
        app = FastAPI(title="edgebrush testbed", docs_url=None, redoc_url=None)

        @app.get("/")
        async def page() -> FileResponse:
            return FileResponse(PAGE, headers={"cache-control": "no-store"})

        @app.get("/events")
        async def events() -> EventSourceResponse:
            return EventSourceResponse(self._listen(), headers={"cache-control": "no-store"})

        return app

    async def _listen(self) -> AsyncIterator[bytes]:
        """What is there already, then whatever comes, until there is an empty event."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.readers.add(queue)
        try:
            for each in (self.state, *self.images):
                yield each
            while told := await queue.get():
                yield told
        finally:
            self.readers.discard(queue)

    def tell(self, told: bytes) -> None:
        for reader in self.readers:
            reader.put_nowait(told)

    @asynccontextmanager
    async def round(self, testbed: Testbed, policy: str) -> AsyncIterator[None]:
        """Watch a testbed while it plays."""
        watch = Watch(testbed, policy)
        self.images.clear()

        async def look() -> None:
            async with httpx.AsyncClient(timeout=LOAD_S, trust_env=False) as client:
                while True:
                    await self._show(watch, client)
                    await asyncio.sleep(INTERVAL_S)

        looking = asyncio.create_task(look())
        try:
            yield
            await asyncio.sleep(2 * INTERVAL_S)  # the last images
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    async def _show(self, watch: Watch, client: httpx.AsyncClient) -> None:
        for image in watch.gather():
            self.images.append(event("image", image))
            self.tell(self.images[-1])
        await watch.ask(client)
        self.state = event("state", watch.state())
        self.tell(self.state)


class Watch:
    """What is known of a round as it goes on: where every task is, how the BSs are, what has come of it."""

    def __init__(self, testbed: Testbed, policy: str):
        self.testbed, self.policy = testbed, policy
        self.tails = [Tail(folder) for folder in testbed.journals]
        self.places = [OWN, *testbed.names]
        self.where: list[dict[str, str]] = [{} for _ in self.tails]  # of each UE's open tasks, "" until decided
        self.batteries = list(testbed.episode.battery_levels)
        self.loads: list[dict[str, Any] | None] = [None for _ in testbed.names]
        self.made = dict.fromkeys(self.places, 0)
        self.images = self.errors = 0
        self.delay_s = 0.0  # of all images

    def gather(self) -> list[dict[str, Any]]:
        """Read on in the journals; the images that they gained."""
        images = []
        for ue, tail in enumerate(self.tails):
            for line in tail.lines():
                image = self._note(ue, tail, line)
                if image:
                    images.append(image)
        return images

    def _note(self, ue: int, tail: Tail, line: dict[str, Any]) -> dict[str, Any] | None:
        task, event = line["task"], line["event"]
        if event == "accepted":
            self.where[ue][task] = ""
        elif event == "decided":
            self.where[ue][task] = line["place"]
            self.batteries[ue] = line["battery"]
        elif event == "ended":
            self.where[ue].pop(task, None)
            if not line["ok"]:
                self.errors += 1
                return None
            ended = line["ended"]
            self.images += 1
            self.made[ended["place"]] += 1
            self.delay_s += ended["delay_s"]
            png = (tail.folder / IMAGES / f"{task}.png").read_bytes()
            return {
                "ue": ue,
                "place": self.places.index(ended["place"]),
                "name": ended["place"],
                "steps": ended["steps"],
                "delay_s": ended["delay_s"],
                "energy_j": ended["energy_ue_j"] + ended["energy_bs_j"],
                "png": base64.b64encode(png).decode(),
            }
        return None

    async def ask(self, client: httpx.AsyncClient) -> None:
        """Ask each BS for its load, past the links."""

        async def load(url: str) -> dict[str, Any] | None:
            try:
                return (await client.get(url + LOAD_PATH)).json()
            except (httpx.HTTPError, ValueError):
                return None

        self.loads = await asyncio.gather(*(load(bs.url) for bs in self.testbed.bss))

    def state(self) -> dict[str, Any]:
        testbed, scenario = self.testbed, self.testbed.episode.scenario
        kinds = [ue.name for ue in scenario.ues for _ in range(ue.count)]
        elapsed_s = time.monotonic() - testbed.start_s if testbed.start_s else 0.0
        asked = sum(arrival.at_s <= elapsed_s for arrival in testbed.episode.arrivals)
        return {
            "title": scenario.title,
            "policy": self.policy,
            "elapsed_s": elapsed_s,
            "seconds": testbed.episode.seconds,
            "asked": asked,
            "of": len(testbed.episode.arrivals),
            "images": self.images,
            "errors": self.errors,
            "delay_s": self.delay_s / max(self.images, 1),
            "own": self.made[OWN],
            "ues": [
                {
                    "kind": kind,
                    "battery": battery,
                    "tasks": [self.places.index(place) if place else -1 for place in where.values()],
                }
                for kind, battery, where in zip(kinds, self.batteries, self.where, strict=True)
            ],
            "bss": [
                {"name": name, "made": self.made[name], "load": load and self._shown(load)}
                for name, load in zip(testbed.names, self.loads, strict=True)
            ],
        }

    def _shown(self, load: dict[str, Any]) -> dict[str, Any]:
        classes = self.testbed.episode.scenario.decision.classes
        names = ("running", "batch_limit", "steps_left", "round_s", "queue_limit")
        return {name: load[name] for name in names} | {"waiting": load["waiting"][:classes]}


def event(kind: str, content: dict[str, Any]) -> bytes:
    return format_sse_event(data_str=json.dumps(content), event=kind)
