"""A small OpenAI-shaped server with faults at will, in a thread or (`python fakes.py SECONDS`) as a process."""

import base64
import io
import json
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("L", (28, 28), 99).save(file, "PNG")
    return file.getvalue()


PICTURE = picture()
REPLY = {
    "created": 0,
    "data": [{"b64_json": base64.b64encode(PICTURE).decode()}],
    "queue_s": 0.0,
    "compute_s": 0.0,
    "energy_j": 0.5,
}


class FakeServer(ThreadingHTTPServer):
    """Answers after ``delay_s`` with ``status`` and ``reply`` (bytes as they are); ``hang_up``: not at all."""

    daemon_threads = True

    def __init__(self, delay_s=0.0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.delay_s, self.status, self.reply, self.headers, self.hang_up = delay_s, 200, REPLY, {}, False
        self.load, self.pages = LOAD, {}
        self.requests, self.load_requests = [], 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # a client that has gone


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body go out together

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append((json.loads(body), dict(self.headers)))
        time.sleep(self.server.delay_s)
        if self.server.hang_up:
            self.close_connection = True
            return
        self.answer(self.server.status, self.server.reply, self.server.headers)

    def do_GET(self):
        self.server.load_requests += 1
        if self.path in self.server.pages:
            self.answer(200, self.server.pages[self.path])
        elif self.path == "/v1/load" and self.server.load is not None:
            self.answer(200, self.server.load)
        else:
            self.answer(404, {"error": {"message": "no such page"}})

    def answer(self, status, reply, headers=None):
        body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *arguments):
        pass


@contextmanager
def fake_server(delay_s=0.0):
    server = FakeServer(delay_s)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    alone = FakeServer(float(sys.argv[1]))
    print(alone.url, flush=True)
    alone.serve_forever()
