"""A headless Chromium, driven over the Chrome DevTools Protocol on a pipe: no driver, no websocket."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One browser tab."""

    def __init__(self, to_browser, from_browser):
        self.to_browser, self.from_browser, self.calls, self.session = to_browser, from_browser, 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method, **parameters):
        """Call a method of the protocol and wait for its result; events in between are ignored."""
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.to_browser.write(json.dumps(message).encode() + b"\0")
        self.to_browser.flush()
        while True:
            reply = self.read()
            if reply.get("id") == self.calls:
                assert "result" in reply, reply
                return reply["result"]

    def read(self):
        """The next message: JSON, ended by a zero byte."""
        message = b""
        while not message.endswith(b"\0"):
            byte = self.from_browser.read(1)
            assert byte, "the browser has exited"
            message += byte
        return json.loads(message[:-1])

    def open(self, url):
        self.call("Page.navigate", url=url)

    def value(self, expression):
        """The value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path, width, height, dark=False):
        self.resize(width, height, dark)
        shot = self.call("Page.captureScreenshot", format="png")
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def resize(self, width, height, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)


def open_on_phone(page, url):
    """Open a page at the width of a phone, 390 px, and wait until it has been read."""
    page.resize(390, 844)
    page.open(url)
    end = time.monotonic() + 20
    while page.value("document.readyState") != "complete" or page.value("location.href") != url:
        assert time.monotonic() < end, "the page was not read"
        time.sleep(0.05)


@contextmanager
def browser():
    """A page of a new browser. The browser reads calls at file descriptor 3 and replies at 4."""
    calls_read, calls_write = os.pipe()
    replies_read, replies_write = os.pipe()

    def set_descriptors():
        low, high = os.dup(calls_read), os.dup(replies_write)
        os.dup2(low, 3)
        os.dup2(high, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                f"--user-data-dir={profile}",
                "--remote-debugging-pipe",
            ],
            preexec_fn=set_descriptors,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(calls_read)
        os.close(replies_write)
        try:
            with os.fdopen(calls_write, "wb") as to_browser, os.fdopen(replies_read, "rb") as from_browser:
                yield Page(to_browser, from_browser)
        finally:
            process.kill()
            process.wait()
