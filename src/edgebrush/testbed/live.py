"""The live page: UEs, BSs and images of a running testbed, pushed to local browsers as server-sent events."""

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

import httpx2
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, format_sse_event

from edgebrush.agent.agent import OWN
from edgebrush.api.application import new_app
from edgebrush.api.pages import page_response
from edgebrush.api.schema import LOAD_PATH
from edgebrush.api.server import Address, Server
from edgebrush.journal.reader import Line, read_image, read_journal

from .testbed import Testbed

PAGE = Path(__file__).with_name("live.html")
INTERVAL_S = 0.2  # between updates
LOAD_TIMEOUT_S = 0.5  # of a load query
KEPT_IMAGES = 120  # for browsers that connect later


class LiveServer(Server):
    """A server that runs beside other tasks and leaves the process's signal handlers alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


class LivePage:
    """The page's server at ``url``. Use as an async context manager, and ``watch`` each policy's testbed."""

    def __init__(self, port: int):
        self.subscribers: set[asyncio.Queue[bytes]] = set()
        self.images: deque[bytes] = deque(maxlen=KEPT_IMAGES)
        self.state = _event("state", {"policy": "", "ues": [], "bss": []})
        self.server = LiveServer(self._app(), Address(port=port), 0, lambda: None, self._end_streams)
        self.url = self.server.url
        self.serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LivePage:
        self.serving = asyncio.create_task(self.server.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.should_exit = True
        if self.serving:
            await self.serving

    def _app(self) -> FastAPI:
        app = new_app("edgebrush testbed")

        @app.get("/")
        async def page() -> HTMLResponse:
            return page_response(PAGE.read_text())

        @app.get("/events")
        async def events() -> EventSourceResponse:
            return EventSourceResponse(self._subscribe(), headers={"cache-control": "no-store"})

        return app

    async def _subscribe(self) -> AsyncIterator[bytes]:
        """The current state and images, then every new event. An empty event ends the stream."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.subscribers.add(queue)
        try:
            for event in (self.state, *self.images):
                yield event
            while event := await queue.get():
                yield event
        finally:
            self.subscribers.discard(queue)

    def _publish(self, event: bytes) -> None:
        for queue in self.subscribers:
            queue.put_nowait(event)

    def _end_streams(self) -> None:
        self._publish(b"")

    @asynccontextmanager
    async def watch(self, testbed: Testbed, policy: str) -> AsyncIterator[None]:
        """Publish a testbed's state and images inside the block."""
        monitor = Monitor(testbed, policy)
        self.images.clear()

        async def update_forever() -> None:
            async with httpx2.AsyncClient(timeout=LOAD_TIMEOUT_S, trust_env=False) as client:
                while True:
                    await self._update(monitor, client)
                    await asyncio.sleep(INTERVAL_S)

        updating = asyncio.create_task(update_forever())
        try:
            yield
            await asyncio.sleep(2 * INTERVAL_S)  # for the last images
        finally:
            updating.cancel()
            await asyncio.wait([updating])

    async def _update(self, monitor: Monitor, client: httpx2.AsyncClient) -> None:
        for image in monitor.read_images():
            self.images.append(_event("image", image))
            self._publish(self.images[-1])
        await monitor.query_loads(client)
        self.state = _event("state", monitor.state())
        self._publish(self.state)


class JournalTail:
    """Reads the events that are added to an agent's journal."""

    def __init__(self, folder: Path):
        self.folder, self.number = folder, 0

    def new_lines(self) -> list[Line]:
        """The events since the last call."""
        lines = read_journal(self.folder, after=self.number)
        if lines:
            self.number = lines[-1]["number"]
        return lines


class Monitor:
    """The state of a running testbed, from the agents' journals and the BSs' load."""

    def __init__(self, testbed: Testbed, policy: str):
        self.testbed, self.policy = testbed, policy
        self.tails = [JournalTail(folder) for folder in testbed.journals]
        self.places = [OWN, *testbed.names]
        self.open_tasks: list[dict[str, str]] = [{} for _ in self.tails]  # of each UE: task -> place, "" if undecided
        self.prompts: dict[str, str] = {}  # of all tasks
        self.batteries = list(testbed.episode.battery_levels)
        self.loads: list[dict[str, Any] | None] = [None for _ in testbed.names]
        self.images_by_place = dict.fromkeys(self.places, 0)
        self.images = self.errors = 0
        self.total_delay_s = 0.0  # of all images

    def read_images(self) -> list[dict[str, Any]]:
        """Apply the new lines of all journals; the images that ended in them."""
        images = []
        for ue, tail in enumerate(self.tails):
            for line in tail.new_lines():
                if self._apply(ue, line):
                    images.append(self._image(ue, line))
        return images

    def _apply(self, ue: int, line: dict[str, Any]) -> bool:
        """Update the state from a journal line; whether an image ended in it."""
        task, event = line["task"], line["event"]
        if event == "accepted":
            self.open_tasks[ue][task] = ""
            self.prompts[task] = line["wanted"].get("prompt", "")
        elif event == "decided":
            self.open_tasks[ue][task] = line["place"]
            self.batteries[ue] = line["battery"]
        elif event == "ended":
            self.open_tasks[ue].pop(task, None)
            if line["ok"]:
                self.images += 1
                self.images_by_place[line["ended"]["place"]] += 1
                self.total_delay_s += line["ended"]["delay_s"]
                return True
            self.errors += 1
        return False

    def _image(self, ue: int, line: dict[str, Any]) -> dict[str, Any]:
        """The event of an image that ended."""
        ended = line["ended"]
        png = read_image(self.tails[ue].folder, line["task"]) or b""
        return {
            "ue": ue,
            "place": self.places.index(ended["place"]),
            "name": ended["place"],
            "steps": ended["steps"],
            "delay_s": ended["delay_s"],
            "energy_j": ended["energy_ue_j"] + ended["energy_bs_j"],
            "prompt": self.prompts.get(line["task"], ""),
            "png": base64.b64encode(png).decode(),
        }

    async def query_loads(self, client: httpx2.AsyncClient) -> None:
        """Query each BS's load, not through the links. None for a BS that does not respond."""

        async def load(url: str) -> dict[str, Any] | None:
            try:
                return (await client.get(url + LOAD_PATH)).json()
            except (httpx2.HTTPError, ValueError):
                return None

        self.loads = await asyncio.gather(*(load(bs.url) for bs in self.testbed.bss))

    def state(self) -> dict[str, Any]:
        """The content of a "state" event, which live.html displays."""
        testbed, scenario = self.testbed, self.testbed.episode.scenario
        elapsed_s = time.monotonic() - testbed.start_s if testbed.start_s else 0.0
        return {
            "title": scenario.title,
            "policy": self.policy,
            "elapsed_s": elapsed_s,
            "seconds": testbed.episode.seconds,
            "requested": sum(task.at_s <= elapsed_s for task in testbed.episode.tasks),
            "total": len(testbed.episode.tasks),
            "images": self.images,
            "errors": self.errors,
            "delay_s": self.total_delay_s / max(self.images, 1),
            "ues": self._ue_states(),
            "bss": self._bs_states(),
        }

    def _ue_states(self) -> list[dict[str, Any]]:
        kinds = [ue.name for ue in self.testbed.episode.scenario.ues for _ in range(ue.count)]
        return [
            {
                "kind": kind,
                "battery": battery,
                "tasks": [self.places.index(place) if place else -1 for place in tasks.values()],
            }
            for kind, battery, tasks in zip(kinds, self.batteries, self.open_tasks, strict=True)
        ]

    def _bs_states(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "images": self.images_by_place[name], "load": load and self._load_state(load)}
            for name, load in zip(self.testbed.names, self.loads, strict=True)
        ]

    def _load_state(self, load: dict[str, Any]) -> dict[str, Any]:
        classes = self.testbed.episode.scenario.decision.classes
        names = ("running", "batch_limit", "steps_left", "round_s", "queue_limit")
        return {name: load[name] for name in names} | {"waiting": load["waiting"][:classes]}


def _event(kind: str, content: dict[str, Any]) -> bytes:
    return format_sse_event(data_str=json.dumps(content), event=kind)
