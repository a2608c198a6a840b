"""What goes over the wire: OpenAI's images API, with the fields that diffusion servers and edgebrush add to it.

A server refuses fields that it does not know; a client ignores those of a reply, so that any server's will do.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgebrush.errors import REASONS, WITHOUT_VALUE, telling_problem
from edgebrush.scenario.schema import MAX_CLASSES

IMAGES_PATH = "/v1/images/generations"
LOAD_PATH = "/v1/load"
MAX_IMAGES = 8  # of one request
MAX_PROMPT = 4000  # characters
MAX_STEPS = 1000  # of any server; each has its own limit below
MAX_SEED = 2**63 - 1
MAX_PARTIAL_IMAGES = 3
DAY_S = 86_400.0

Prompt = Annotated[str, Field(max_length=MAX_PROMPT)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ImageRequest(BaseModel):
    """A request for images; null means the same as leaving a field out."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT)] = Field(
        description="for a class-conditional model the name of a class"
    )
    model: Annotated[str, Field(max_length=200)] | None = Field(default=None, description="null: the server's own")
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = Field(default=None, description="images; null: one")
    size: Annotated[str, Field(max_length=20)] | None = Field(default=None, description="the model's own, or auto")
    response_format: Literal["b64_json"] | None = Field(default=None, description="nothing is kept to be fetched")
    output_format: Literal["png"] | None = None
    stream: bool | None = Field(default=None, description="server-sent events instead of one reply; one image only")
    partial_images: Annotated[int, Field(ge=0, le=MAX_PARTIAL_IMAGES)] | None = Field(
        default=None, description="how many a stream shows before the image; null: one a step"
    )
    user: Annotated[str, Field(max_length=200)] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = Field(
        default=None, description="denoising steps; the server may allow fewer"
    )
    guidance_scale: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] | None = Field(
        default=None, description="of classifier-free guidance; 1 or null: none"
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(
        default=None, description="of the first image, the next ones count on; null: the server draws one"
    )
    negative_prompt: Prompt | None = None
    service_class: Annotated[int, Field(ge=0, le=MAX_CLASSES - 1)] | None = Field(
        default=None, description="0 is served first, and what null means"
    )
    deadline_s: Annotated[float, Field(gt=0, le=DAY_S, allow_inf_nan=False)] | None = Field(
        default=None, description="whoever has waited so long is dropped; what runs by then is finished"
    )


class Image(BaseModel):
    b64_json: str = Field(description="a PNG file, base64")


class ImageReply(BaseModel):
    """The images, and what they cost; of those figures a server that is not edgebrush tells none."""

    created: int = Field(description="Unix time")
    data: list[Image]
    steps_used: int | None = None
    served_by: str | None = None
    queue_s: Seconds | None = Field(default=None, description="from admission until the last image's first step")
    compute_s: Seconds | None = Field(default=None, description="from an image's first step to its end, the longest")
    energy_j: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="by the profile: the images' shares of their rounds and their fixed parts"
    )


class PartialImage(BaseModel):
    """A stream's sign of progress: the sample as it is after a step."""

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"
    b64_json: str
    partial_image_index: Count
    created_at: int
    size: str
    step: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=1)]
    background: Literal["opaque"] = "opaque"
    output_format: Literal["png"] = "png"
    quality: Literal["auto"] = "auto"


class Completed(BaseModel):
    """A stream's last event: the image, and what it cost."""

    type: Literal["image_generation.completed"] = "image_generation.completed"
    b64_json: str
    created_at: int
    size: str
    background: Literal["opaque"] = "opaque"
    output_format: Literal["png"] = "png"
    quality: Literal["auto"] = "auto"
    steps_used: int
    served_by: str
    queue_s: Seconds
    compute_s: Seconds
    energy_j: float


class Problem(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ProblemReply(BaseModel):
    error: Problem


JobStatus = Literal["queued", "in_progress", "completed", "failed", "cancelled"]


class JobReply(BaseModel):
    """A job that was taken with ``Prefer: respond-async``."""

    id: str
    status: JobStatus
    queue_position: Count = Field(description="1 enters next; 0 once it runs or has ended")
    steps_done: Count = Field(description="denoising steps of all its images")
    steps: Count
    result: ImageReply | None = None
    error: Problem | None = None


class Load(BaseModel):
    """The broadcast: a station's load, in the words of ``decision/observation.py`` (as ``sim/world.py`` publishes it).

    A list has an entry for each service class.
    """

    name: str
    time: float = Field(description="Unix time on the station's clock")
    running: Count = Field(description="tasks in the batch")
    steps_left: Count = Field(description="denoising steps that the running tasks have left, the sum over them")
    waiting: list[Count] = Field(description="tasks that wait")
    waiting_steps: list[Count] = Field(description="denoising steps of the tasks that wait")
    connections: Count = Field(description="requests being received, worked on or answered")
    round_s: Seconds = Field(description="how long the last round took; 0 before the first")
    batch_limit: Count
    queue_limit: Count
    connection_limit: Count


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Refusal(Exception):
    """A request that gets a problem for an answer; ``retry_after_s`` where it may be sent again."""

    def __init__(
        self,
        status: int,
        message: str,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ):
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s
        self.problem = Problem(
            message=encodable(message), type=type, param=encodable(param) if param else None, code=code
        )


def encodable(text: str) -> str:
    """One line that is valid UTF-8, whatever a client put into it."""
    return " ".join(text.encode(errors="backslashreplace").decode().split())


def refusal_of(problems: list[dict[str, Any]]) -> Refusal:
    """What FastAPI found wrong with a request, as OpenAI would say it."""
    first = telling_problem(problems)
    path = ".".join(str(part) for part in first["loc"][1:])  # after "body"
    reason = REASONS.get(first["type"], first["msg"]).format(**first.get("ctx", {}))
    if first["type"] == "json_invalid":
        return Refusal(400, f"the body is {reason}", code="invalid_json")
    if not path:
        return Refusal(422, f"the body {reason}; send a JSON object as application/json", code="invalid_value")
    shown = path if first["type"] in WITHOUT_VALUE else f"{path} = {shortened(first['input'])}"
    return Refusal(422, f"{shown}: {reason}", param=path, code=first["type"])


def shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
