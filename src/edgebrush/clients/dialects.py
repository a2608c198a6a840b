"""The dialects of image servers: what each kind of server is sent, what it ignores, and where its load is read.

All of them have OpenAI's images API (`POST {base_url}/images/generations`), and each has its own names for what that
API lacks. The facts come from the servers' source code and documentation, looked up on 2026-11-26; each dialect names
its files. `tests/clients/recordings/` has what the servers answer, and docs/agent.md a table of it all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from edgebrush.decision.observation import LoadReport
from edgebrush.scenario.schema import Endpoint, EndpointKind

from .loads import parse_gauges, parse_load
from .offload import Offload

STEPS, SEED, GUIDANCE, NEGATIVE = "steps", "seed", "guidance", "negative prompt"
SERVICE_CLASS, DEADLINE = "class", "deadline"
Names = Mapping[str, str]  # a setting's name in the server's requests, by the setting
SETTINGS = (STEPS, SEED, GUIDANCE, NEGATIVE, SERVICE_CLASS, DEADLINE)  # of a task, which OpenAI's API lacks
DIFFUSERS: Names = {  # the names of diffusers' pipelines, which several servers have taken over
    STEPS: "num_inference_steps",
    SEED: "seed",
    GUIDANCE: "guidance_scale",
    NEGATIVE: "negative_prompt",
}


def settings_of(offload: Offload) -> dict[str, Any]:
    """The settings that a task has; without guidance, negative prompt or deadline, those are left out."""
    task = offload.task
    settings: dict[str, Any] = {STEPS: offload.steps, SEED: task.seed, SERVICE_CLASS: offload.service_class}
    if task.guidance is not None:
        settings[GUIDANCE] = task.guidance
    if task.negative:
        settings[NEGATIVE] = task.negative
    if offload.deadline_s is not None:
        settings[DEADLINE] = offload.deadline_s
    return settings


class Dialect:
    """A kind of server. ``fields`` names the server's field for each of a task's settings that it takes."""

    kind: ClassVar[EndpointKind]
    fields: ClassVar[Names] = {}
    reports_load: ClassVar[bool] = False
    zero_if_off: ClassVar[bool] = False  # whether it reports no tasks where its reports are turned off

    @property
    def ignores(self) -> list[str]:
        """The settings of a task that do not reach the server."""
        return [each for each in SETTINGS if each not in self.fields]

    def body(self, offload: Offload, size_px: int, model: str | None) -> dict[str, Any]:
        """The JSON of a request for one image."""
        body: dict[str, Any] = {
            "prompt": offload.task.prompt,
            "n": 1,
            "size": f"{size_px}x{size_px}",
            "response_format": "b64_json",
        }
        if model is not None:
            body["model"] = model
        return body | {
            self.fields[setting]: value for setting, value in settings_of(offload).items() if setting in self.fields
        }

    def load_url(self, base_url: str, endpoint: Endpoint) -> str:
        """The page that is polled. Without load reports, its status and its round trip still tell of server and link.

        Each server lists its models, also where it has no page for its health.
        """
        return f"{base_url}/models"

    def read_load(self, body: bytes, now: float, classes: int, mean_steps: float) -> LoadReport:
        """The load in the polled page, of a server that reports it. Raises ``ValueError`` where it is invalid."""
        raise ValueError(f"{self.kind} reports no load")


class OpenAi(Dialect):
    """OpenAI's API as it is, for OpenAI and any server without a dialect of its own.

    Source: openai/openai-openapi, openapi.yaml, ``CreateImageRequest``, commit f85dbe2 (2026-08-21).
    """

    kind = "openai"

    def body(self, offload: Offload, size_px: int, model: str | None) -> dict[str, Any]:
        """The GPT image models always answer in base64, and refuse ``response_format``."""
        body = super().body(offload, size_px, model)
        if model is not None and model.startswith(("gpt-image", "chatgpt-image")):
            del body["response_format"]
        return body


class EdgeBrush(Dialect):
    """`edgebrush serve`: takes everything, and has service classes."""

    kind = "edgebrush"
    fields: ClassVar[Names] = {
        **DIFFUSERS,
        SERVICE_CLASS: "service_class",
        DEADLINE: "deadline_s",
    }
    reports_load = True

    def load_url(self, base_url: str, endpoint: Endpoint) -> str:
        return f"{base_url}/load"

    def read_load(self, body: bytes, now: float, classes: int, mean_steps: float) -> LoadReport:
        return parse_load(body, now, classes)


class VllmOmni(Dialect):
    """vLLM-Omni, which counts requests at `/metrics` if it was started with `--log-stats`, and else reports 0.

    Source: vllm-project/vllm-omni, vllm_omni/entrypoints/openai/protocol/images.py (00a3619); for the gauges,
    docs/usage/metrics.md (025819f), pull request 3362 (2026-05-05) and issue 5811 (2026-08-05).
    """

    kind = "vllm-omni"
    fields: ClassVar[Names] = DIFFUSERS  # steps from 1 to 200, guidance from 0 to 20
    reports_load = True
    zero_if_off = True
    # The newest names first. The last ones are of vLLM itself, for an autoregressive stage.
    prefixes = ("vllm_omni:", "vllm:omni_", "vllm:")

    def load_url(self, base_url: str, endpoint: Endpoint) -> str:
        base = urlsplit(base_url)
        return endpoint.metrics_url or f"{base.scheme}://{base.netloc}/metrics"

    def read_load(self, body: bytes, now: float, classes: int, mean_steps: float) -> LoadReport:
        names = [(f"{each}num_requests_running", f"{each}num_requests_waiting") for each in self.prefixes]
        return parse_gauges(body, names, mean_steps, now, classes)


class SglDiffusion(Dialect):
    """SGLang's diffusion server, which has no `/metrics`.

    Source: sgl-project/sglang, python/sglang/multimodal_gen/runtime/entrypoints/openai/protocol.py (020befb),
    image_api.py (0230ddc), http_server.py (0017ffd); pull request 20295 for `/metrics` was closed.
    """

    kind = "sglang"
    fields: ClassVar[Names] = DIFFUSERS  # the seed is 1024 where none is sent


class SdCpp(Dialect):
    """The server of stable-diffusion.cpp, which takes settings only as JSON in a tag inside the prompt.

    Source: leejet/stable-diffusion.cpp, examples/server/api.md and routes_openai.cpp, examples/common/common.cpp
    (``from_json_str``), commit 97d2990 (2026-08-19). Top-level fields were proposed in pull request 1550, and closed.
    The first tag counts, and every tag is removed from the prompt.
    """

    kind = "sd.cpp"
    fields: ClassVar[Names] = {
        STEPS: "sample_params.sample_steps",
        SEED: "seed",  # 42 where none is sent
        GUIDANCE: "sample_params.guidance.txt_cfg",
        NEGATIVE: "negative_prompt",
    }
    opening, closing = "<sd_cpp_extra_args>", "</sd_cpp_extra_args>"
    # The server finds the tag by std::regex, which recurses for each byte: a tag of 64 kB ends a server that was built
    # with GCC (its bug 86164), one of 32 kB does not. Text encoders read some hundred tokens.
    max_negative = 4_000  # characters, of at most 6 bytes each

    def body(self, offload: Offload, size_px: int, model: str | None) -> dict[str, Any]:
        """The server's tag comes first, and a tag of the user's is broken: it could name files of the server."""
        settings = {self.fields[each]: value for each, value in settings_of(offload).items() if each in self.fields}
        if negative := settings.get(self.fields[NEGATIVE]):
            settings[self.fields[NEGATIVE]] = negative[: self.max_negative]
        extra = json.dumps(nested(settings), ensure_ascii=False).replace("<", "\\u003c")
        prompt = offload.task.prompt
        for tag in (self.opening, self.closing):
            prompt = prompt.replace(tag, f"< {tag[1:]}")
        body = OPENAI.body(offload, size_px, model)
        return body | {"prompt": f"{self.opening}{extra}{self.closing}{prompt}"}


class LocalAi(Dialect):
    """LocalAI, where the prompt's part after a `|` is the negative prompt. Guidance is the model's setting there.

    Source: mudler/LocalAI, core/http/endpoints/openai/image.go, core/http/middleware/request.go and admission.go,
    core/schema/openai.go, commit 82c191a (2026-08-22). Its `/metrics` has the durations of calls, but no load.
    """

    kind = "localai"
    fields: ClassVar[Names] = {STEPS: "step", SEED: "seed", NEGATIVE: "prompt"}
    separator = "|"

    def body(self, offload: Offload, size_px: int, model: str | None) -> dict[str, Any]:
        """A `|` in a user's text would begin the negative prompt."""
        body = super().body(offload, size_px, model)
        texts = [offload.task.prompt, offload.task.negative]
        parts = [text.replace(self.separator, ",") for text in texts if text]
        return body | {"prompt": self.separator.join(parts)}


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted names, as nested objects."""
    top: dict[str, Any] = {}
    for name, value in settings.items():
        *outer, last = name.split(".")
        inner = top
        for each in outer:
            inner = inner.setdefault(each, {})
        inner[last] = value
    return top


OPENAI = OpenAi()
DIALECTS: Mapping[EndpointKind, Dialect] = {
    each.kind: each for each in (EdgeBrush(), VllmOmni(), SglDiffusion(), SdCpp(), LocalAi(), OPENAI)
}
