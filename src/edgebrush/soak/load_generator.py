"""The clients of a long run: a steady stream of volleys, and bursts. Each request is repeated until it is answered."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import itertools
import time
from collections import Counter

import httpx2
from PIL import Image

from edgebrush.api.schema import IMAGES_PATH
from edgebrush.testbed.testbed import RETRY_S, Testbed

VOLLEY = 6  # requests at once at one agent, so that it needs more than one station
MAX_OPEN = 24  # requests of volleys at once: then the next volley waits


class LoadGenerator:
    """Sends ``rate_hz`` requests per second, to one agent after the other, until ``stop`` is called."""

    def __init__(self, testbed: Testbed, rate_hz: float, prefix: str):
        self.testbed, self.rate_hz, self.prefix = testbed, rate_hz, prefix
        self.requested = 0
        self.images: set[str] = set()  # requests that were answered with an image
        self.errors: Counter[str] = Counter()  # by status and code
        self.damaged: list[str] = []  # requests whose images cannot be decoded
        self.open: dict[str, float] = {}  # request -> its start, on the monotonic clock
        self.stopping = False
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=1.0)
        self.client = httpx2.AsyncClient(timeout=None, limits=limits, trust_env=False)

    @property
    def answered(self) -> int:
        return len(self.images) + self.errors.total()

    async def run(self) -> None:
        """Send volleys until ``stop``, then wait for the last answer."""
        async with self.client, asyncio.TaskGroup() as group:
            due = time.monotonic()
            for ue in itertools.cycle(range(len(self.testbed.ues))):
                if self.stopping:
                    break
                if len(self.open) < MAX_OPEN:
                    for _ in range(VOLLEY):
                        group.create_task(self.request(ue))
                due = max(due + VOLLEY / self.rate_hz, time.monotonic() - 1.0)  # catches up on a second at most
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def stop(self) -> None:
        """Send no more volleys."""
        self.stopping = True

    async def burst(self, ue: int, count: int) -> None:
        """Send ``count`` requests at once, and wait for their answers."""
        await asyncio.gather(*(self.request(ue) for _ in range(count)))

    async def request(self, ue: int) -> None:
        """Request one image; repeat the request with the same idempotency key while the agent does not answer."""
        key = f"{self.prefix}-{self.requested}"
        self.requested += 1
        prompt = self.testbed.episode.tasks[0].prompt
        body = {"prompt": prompt, "seed": self.requested}
        self.open[key] = time.monotonic()
        try:
            while (response := await self._post(ue, key, body)) is None:
                await asyncio.sleep(RETRY_S)
        finally:
            del self.open[key]
        if response.status_code == 200:
            self._record_image(key, response)
        else:
            self.errors[f"{response.status_code} {_code(response)}"] += 1

    async def _post(self, ue: int, key: str, body: dict[str, object]) -> httpx2.Response | None:
        """The answer; None where the connection breaks, for example because the agent is killed."""
        try:
            url = self.testbed.ues[ue].url + IMAGES_PATH
            return await self.client.post(url, json=body, headers={"idempotency-key": key})
        except httpx2.TransportError:
            return None

    def _record_image(self, key: str, response: httpx2.Response) -> None:
        self.images.add(key)
        try:
            Image.open(io.BytesIO(base64.b64decode(response.json()["data"][0]["b64_json"]))).load()
        except (ValueError, KeyError, IndexError, TypeError, OSError, SyntaxError, binascii.Error):
            self.damaged.append(key)


def _code(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return response.text[:40]
