"""Servers that behave as other projects' servers do: each takes, ignores and refuses what that server does.

They answer in the words of tests/clients/recordings. An image is noise that depends on all that reached the model, so a
setting that was ignored shows in the picture. Images are made one by one, at ``step_s`` a step.
"""

import asyncio
import base64
import io
import itertools
import json
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tests.support.fakes import LOAD, FakeStation
from tests.support.recordings import recording

DEFAULT_STEPS, DEFAULT_PX = 20, 28
GAUGE = re.compile(r"^(\w+:\w*num_requests_(running|waiting)\{.*\}) .*$", re.MULTILINE)
SD_CPP_TAG = re.compile("<sd_cpp_extra_args>(.*?)</sd_cpp_extra_args>")
OPENAI_FIELDS = {"prompt", "model", "n", "size", "response_format", "output_format", "quality", "user"}


@dataclass(frozen=True)
class Order:
    """What reached the model."""

    prompt: str
    negative: str = ""
    steps: int = DEFAULT_STEPS
    seed: int | None = None
    guidance: float | None = None
    px: int = DEFAULT_PX


class Refused(Exception):
    """The server answers with one of its recordings."""


class DialectServer(FakeStation):
    """One server on a virtual clock. ``orders`` collects what reached the model."""

    kind: str
    limit = 10**6  # requests at once; one more is refused

    def __init__(self, step_s=0.05):
        super().__init__()
        self.step_s, self.orders, self.open, self.running = step_s, [], 0, 0
        self.model, self.noise = asyncio.Lock(), itertools.count(10**6)

    # -- images

    async def answer(self, body):
        if self.status != 200:
            return self.image_response()
        try:
            return await self.make(self.order(body))
        except Refused as refusal:
            return recording(self.kind, str(refusal))

    def order(self, body):
        """The request as this server reads it. Raises ``Refused``."""
        raise NotImplementedError

    async def make(self, order):
        if self.open >= self.limit:
            raise Refused("overload")
        self.open += 1
        try:
            async with self.model:
                self.running = 1
                await asyncio.sleep(order.steps * self.step_s)
        finally:
            self.open, self.running = self.open - 1, 0
        self.orders.append(order)
        status, body, headers = recording(self.kind, "image")
        reply = json.loads(body)
        reply["data"][0]["b64_json"] = base64.b64encode(self.picture(order)).decode()
        return status, reply | self.costs(order), headers

    def costs(self, order):
        """What the reply states about the image."""
        return {}

    def picture(self, order):
        seed = next(self.noise) if order.seed is None else order.seed
        told = f"{order.prompt}|{order.negative}|{order.steps}|{order.guidance}".encode()
        levels = np.random.default_rng([seed, *told]).integers(0, 255, (order.px, order.px, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(levels).save(file, "PNG")
        return file.getvalue()

    # -- pages

    def page_response(self, path):
        self.load_requests += 1
        if path in self.pages:
            return 200, self.pages[path], {}
        if path == "/v1/models":
            return recording(self.kind, "models")
        return self.load_page(path) or (404, b"", {})

    def load_page(self, path):
        return recording(self.kind, "metrics") if path == "/metrics" else None


class EdgeBrushServer(DialectServer):
    kind = "edgebrush"

    def order(self, body):
        return named(body, steps="num_inference_steps", negative="negative_prompt", guidance="guidance_scale")

    def costs(self, order):
        return {"steps_used": order.steps, "compute_s": order.steps * self.step_s}

    def load_page(self, path):
        if path != "/v1/load":
            return None
        waiting = self.open - self.running
        load = {"running": self.running, "steps_left": 10 * self.running, "waiting": [0, waiting]}
        return 200, LOAD | load | {"waiting_steps": [0, 10 * waiting], "connections": self.open}, {}


class VllmOmniServer(DialectServer):
    """With ``--log-stats``, or without. ``names`` is a recording with the gauges' names."""

    kind = "vllm-omni"
    log_stats, names = True, "metrics"

    def order(self, body):
        if not 1 <= body.get("num_inference_steps", 1) <= 200:
            raise Refused("invalid-field")
        return named(body, steps="num_inference_steps", negative="negative_prompt", guidance="guidance_scale")

    def load_page(self, path):
        if path != "/metrics":
            return None
        counts = {"running": self.running, "waiting": self.open - self.running}
        status, text, headers = recording(self.kind, self.names)
        filled = GAUGE.sub(lambda hit: f"{hit[1]} {counts[hit[2]] * self.log_stats:.1f}", text.decode())
        return status, filled.encode(), headers


class SglangServer(DialectServer):
    kind = "sglang"

    def order(self, body):
        assert body["response_format"] == "b64_json"  # else it answers with an address
        read = named(body, steps="num_inference_steps", negative="negative_prompt", guidance="guidance_scale")
        return read if read.seed is not None else Order(**vars(read) | {"seed": 1024})

    def costs(self, order):
        return {"inference_time_s": order.steps * self.step_s}


class SdCppServer(DialectServer):
    """Ignores all of a request but prompt, size and n; settings come in a tag of the prompt."""

    kind = "sd.cpp"

    def order(self, body):
        prompt, extra = body["prompt"], {}
        if hit := SD_CPP_TAG.search(prompt):
            try:
                extra = json.loads(hit[1])
            except ValueError:
                raise Refused("invalid") from None
            prompt = SD_CPP_TAG.sub("", prompt)
        sampling = extra.get("sample_params", {})
        return Order(
            prompt,
            extra.get("negative_prompt", ""),
            sampling.get("sample_steps", DEFAULT_STEPS),
            extra.get("seed", 42),
            sampling.get("guidance", {}).get("txt_cfg"),
            side(body),
        )


class LocalAiServer(DialectServer):
    kind = "localai"
    limit = 4

    def order(self, body):
        assert body["response_format"] == "b64_json"
        prompt, *negative = body["prompt"].split("|")
        return Order(
            prompt,
            negative[0] if negative else "",
            body.get("step") or DEFAULT_STEPS,
            body.get("seed"),
            None,
            side(body),
        )


class OpenAiServer(DialectServer):
    kind = "openai"
    limit = 4

    def order(self, body):
        if set(body) - OPENAI_FIELDS or ("response_format" in body) == str(body.get("model")).startswith("gpt-image"):
            raise Refused("invalid")
        return Order(body["prompt"], px=side(body))

    def load_page(self, path):
        return None


def named(body, steps, negative, guidance):
    """The order in a request with these names of fields."""
    return Order(
        body["prompt"],
        body.get(negative) or "",
        body.get(steps) or DEFAULT_STEPS,
        body.get("seed"),
        body.get(guidance),
        side(body),
    )


def side(body):
    return int(body["size"].partition("x")[0]) if "size" in body else DEFAULT_PX


SERVERS = {
    each.kind: each
    for each in (EdgeBrushServer, VllmOmniServer, SglangServer, SdCppServer, LocalAiServer, OpenAiServer)
}
