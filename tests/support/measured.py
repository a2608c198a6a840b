"""Image servers in memory behind links of known rates, on a virtual clock: what `init` is to find out."""

import asyncio
import base64
import io
import json

import httpx2
from PIL import Image

from tests.support.fakes import LOAD


def random_png(side):
    """An image of ``side`` pixels that does not compress."""
    file = io.BytesIO()
    Image.effect_noise((side, side), 100).save(file, "PNG")
    return file.getvalue()


class Arriving(httpx2.AsyncByteStream):
    """A body that takes its time."""

    def __init__(self, content, seconds):
        self.content, self.seconds = content, seconds

    async def __aiter__(self):
        await asyncio.sleep(self.seconds)
        yield self.content


class MeasuredServer:
    """A server with ``fixed_s + steps * step_s`` of service, behind a link. ``kind``: edgebrush, or vllm-omni."""

    def __init__(
        self, kind="edgebrush", fixed_s=0.2, step_s=0.05, up_bps=8e6, down_bps=2e7, round_trip_s=0.04, side=96
    ):
        self.kind, self.fixed_s, self.step_s = kind, fixed_s, step_s
        self.up_bps, self.down_bps, self.round_trip_s = up_bps, down_bps, round_trip_s
        self.side, self.model, self.owner = side, "some-model", "vllm"
        self.load, self.status, self.honours_steps, self.refuses = LOAD, 200, True, True
        self.pictures = {}  # by steps
        self.locked = False
        self.images = 0

    async def respond(self, request):
        await asyncio.sleep(self.round_trip_s / 2 + 8 * len(request.content) / self.up_bps)
        status, reply, server_s = self.answer(request)
        await asyncio.sleep(server_s)
        content = json.dumps(reply).encode()
        headers = {"server-timing": f"app;dur={1e3 * server_s:.3f}"} if self.kind == "edgebrush" else {}
        await asyncio.sleep(self.round_trip_s / 2)
        return httpx2.Response(status, headers=headers, stream=Arriving(content, 8 * len(content) / self.down_bps))

    def answer(self, request):
        """Status, reply and seconds at the server."""
        path = request.url.path
        if self.locked:
            return 401, {"error": {"message": "a valid token is needed"}}, 0.0
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": self.model, "created": 0, "owned_by": self.owner}]}, 0.0
        if path == "/v1/load" and self.kind == "edgebrush":
            return 200, self.load, 0.0
        if request.method != "POST":
            return 404, {"error": {"message": "no such page"}}, 0.0
        body = json.loads(request.content)
        if "prompt" not in body and self.refuses:
            return 400, {"error": {"message": "prompt is missing"}}, 0.0
        return self.make_image(body.get("num_inference_steps"))

    def make_image(self, steps):
        if self.status != 200:
            return self.status, {"error": {"message": "no image today"}}, 0.0
        self.images += 1
        steps = steps if steps and self.honours_steps else 20
        seconds = self.fixed_s + steps * self.step_s
        picture = self.pictures.setdefault(steps, random_png(self.side))
        reply = {"created": 0, "data": [{"b64_json": base64.b64encode(picture).decode()}]}
        if self.kind == "edgebrush":
            reply |= {"queue_s": 0.0, "compute_s": seconds, "energy_j": 1.0, "steps_used": steps}
        return 200, reply, seconds


class MeasuredNetwork(httpx2.MockTransport):
    """Requests to ``http://NAME`` reach the server of that name; others are refused."""

    def __init__(self, servers):
        super().__init__(self.respond)
        self.servers = servers

    async def respond(self, request):
        server = self.servers.get(request.url.host)
        if server is None:
            raise httpx2.ConnectError("connection refused", request=request) from ConnectionRefusedError()
        return await server.respond(request)
