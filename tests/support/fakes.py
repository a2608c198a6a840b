"""A fake server with OpenAI's images API and faults on demand: in memory, in a thread, or (`python fakes.py SECONDS`)
as a process.
"""

import asyncio
import base64
import io
import json
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
from PIL import Image

LOAD = {
    "name": "fake",
    "time": 0.0,
    "running": 0,
    "steps_left": 0,
    "waiting": [0, 0],
    "waiting_steps": [0, 0],
    "connections": 0,
    "round_s": 0.01,
    "batch_limit": 4,
    "queue_limit": 32,
    "connection_limit": 64,
}


def make_png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (28, 28), 99).save(file, "PNG")
    return file.getvalue()


PNG = make_png()
REPLY = {
    "created": 0,
    "data": [{"b64_json": base64.b64encode(PNG).decode()}],
    "queue_s": 0.0,
    "compute_s": 0.0,
    "energy_j": 0.5,
}


class FakeStation:
    """What the fake server answers: after ``delay_s``, with ``status`` and ``reply`` (a dict, or bytes as they are).

    With ``hang_up`` it closes the connection instead. ``requests`` collects (body, headers) of image requests.
    """

    def __init__(self, delay_s=0.0):
        self.delay_s, self.status, self.reply, self.headers, self.hang_up = delay_s, 200, REPLY, {}, False
        self.load, self.load_status, self.pages = LOAD, 200, {}
        self.reachable = True  # in memory; otherwise connections are refused
        self.requests, self.load_requests = [], 0

    async def page_delay(self):
        """In memory, before the response to a load request."""

    async def make_image(self):
        """In memory, before the response to an image request."""
        await asyncio.sleep(self.delay_s)

    def image_response(self):
        return self.status, self.reply, self.headers

    async def answer(self, body):
        """In memory, the response to an image request."""
        await self.make_image()
        return self.image_response()

    def page_response(self, path):
        self.load_requests += 1
        if path in self.pages:
            return 200, self.pages[path], {}
        if path == "/v1/load" and self.load is not None:
            return self.load_status, self.load, {}
        return 404, {"error": {"message": "no such page"}}, {}


def encode(reply):
    return reply if isinstance(reply, bytes) else json.dumps(reply).encode()


class FakeNetwork(httpx2.MockTransport):
    """An in-memory network: requests to ``http://NAME`` reach the fake station of that name, others fail."""

    def __init__(self, stations):
        super().__init__(self.respond)
        self.stations = stations

    async def respond(self, request):
        station = self.stations.get(request.url.host)
        if station is None or not station.reachable:
            raise httpx2.ConnectError("connection refused", request=request)
        if request.method == "POST":
            station.requests.append((json.loads(request.content), request.headers))
            status, reply, headers = await station.answer(station.requests[-1][0])
            if station.hang_up:
                raise httpx2.RemoteProtocolError("server disconnected", request=request)
        else:
            await station.page_delay()
            status, reply, headers = station.page_response(request.url.path)
        return httpx2.Response(status, headers=headers, content=encode(reply))


class FakeServer(FakeStation, ThreadingHTTPServer):
    """The fake station on a real port."""

    daemon_threads = True

    def __init__(self, delay_s=0.0):
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", 0), Handler)
        FakeStation.__init__(self, delay_s)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # a client that has disconnected


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body are sent together

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append((json.loads(body), dict(self.headers)))
        time.sleep(self.server.delay_s)
        if self.server.hang_up:
            self.close_connection = True
        else:
            self.send(*self.server.image_response())

    def do_GET(self):
        self.send(*self.server.page_response(self.path))

    def send(self, status, reply, headers):
        body = encode(reply)
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *arguments):
        pass


@contextmanager
def fake_server(delay_s=0.0):
    """A fake server in a thread."""
    server = FakeServer(delay_s)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    process = FakeServer(float(sys.argv[1]))
    print(process.url, flush=True)
    process.serve_forever()
