"""A headless Chromium, spoken to over its own pipe (Chrome DevTools Protocol), without a driver or a websocket."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    def __init__(self, to_browser, from_browser):
        self.to_browser, self.from_browser, self.asked, self.session = to_browser, from_browser, 0, None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def ask(self, method, **parameters):
        """Call a method of the protocol and wait for its result; events on the way are passed over."""
        self.asked += 1
        call = {"id": self.asked, "method": method, "params": parameters}
        if self.session:
            call["sessionId"] = self.session
        self.to_browser.write(json.dumps(call).encode() + b"\0")
        self.to_browser.flush()
        while True:
            message = b""
            while not message.endswith(b"\0"):
                byte = self.from_browser.read(1)
                assert byte, "the browser has gone"
                message += byte
            answer = json.loads(message[:-1])
            if answer.get("id") == self.asked:
                assert "result" in answer, answer
                return answer["result"]

    def open(self, url):
        self.ask("Page.navigate", url=url)

    def value(self, expression):
        """What an expression is in the page."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path, width, height, dark=False):
        self.size(width, height, dark)
        shot = self.ask("Page.captureScreenshot", format="png")
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def size(self, width, height, dark=False):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=features)


@contextmanager
def browser():
    """A page of a fresh browser; it reads commands at descriptor 3 and answers at 4."""
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()

    def descriptors():
        low, high = os.dup(command_read), os.dup(answer_write)
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
            preexec_fn=descriptors,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_read)
        os.close(answer_write)
        try:
            with os.fdopen(command_write, "wb") as to_browser, os.fdopen(answer_read, "rb") as from_browser:
                yield Page(to_browser, from_browser)
        finally:
            process.kill()
            process.wait()
