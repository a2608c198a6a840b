"""JSON messages of the images API: OpenAI's format, plus the fields that diffusion servers and edgebrush add.

A server rejects unknown fields of a request. A client ignores unknown fields of a reply, so it works with any server.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgebrush.scenario.schema import MAX_CLASSES

IMAGES_PATH = "/v1/images/generations"
LOAD_PATH = "/v1/load"
MODELS_PATH = "/v1/models"
MAX_IMAGES = 10  # per request
MAX_PROMPT = 32_000  # characters
MAX_NAME = 200  # characters of a model's name or of an identifier
MAX_STEPS = 1000  # of any server; each server has its own, lower limit
MAX_SEED = 2**63 - 1
MAX_PARTIAL_IMAGES = 3
DAY_S = 86_400.0

PromptText = Annotated[str, Field(max_length=MAX_PROMPT)]
Name = Annotated[str, Field(max_length=MAX_NAME)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
OutputFormat = Literal["png", "jpeg", "webp"]
NO_EFFECT = "accepted, without effect"
NO_ANIMATION = "not supported, because the images are neither GIF nor SVG"


class OpenAiFields(BaseModel):
    """The fields of OpenAI's `images.generate`, as in the package openai 3.54 (November 2026)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT)] = Field(
        description="for a class-conditional model: the name of a class"
    )
    model: Name | None = Field(
        default=None, description="a name that /v1/models lists; OpenAI's names mean the served model"
    )
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = Field(
        default=None, description="number of images; default: 1"
    )
    size: Annotated[str, Field(max_length=20)] | None = Field(
        default=None, description="auto or the model's own size; OpenAI's sizes mean the model's own"
    )
    response_format: Literal["url", "b64_json"] | None = Field(
        default=None, description="inline (default), or the address of a file that is kept for an hour"
    )
    output_format: OutputFormat | None = Field(default=None, description="default: png")
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, description="quality of jpeg and webp; default: 100"
    )
    background: Literal["opaque", "auto"] | None = Field(default=None, description="images have no transparency")
    stream: bool | None = Field(default=None, description="reply with server-sent events; only for one image")
    partial_images: Annotated[int, Field(ge=0, le=MAX_PARTIAL_IMAGES)] | None = Field(
        default=None, description="partial images in a stream; default: 0"
    )
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = Field(
        default=None, description=NO_EFFECT
    )
    style: Literal["vivid", "natural"] | None = Field(default=None, description=NO_EFFECT)
    complexity: Literal["low", "medium", "high"] | None = Field(default=None, description=NO_EFFECT)
    moderation: Literal["low", "auto"] | None = Field(default=None, description=NO_EFFECT)
    user: Name | None = Field(default=None, description=NO_EFFECT)
    safety_identifier: Name | None = Field(default=None, description=NO_EFFECT)
    frame_count: None = Field(default=None, description=NO_ANIMATION)
    frame_duration_ms: None = Field(default=None, description=NO_ANIMATION)
    svg: None = Field(default=None, description=NO_ANIMATION)


class ImageFields(OpenAiFields):
    """OpenAI's fields, and those that stations and agents add alike."""

    guidance_scale: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] | None = Field(
        default=None, description="scale of classifier-free guidance; 1 means none; default: the model's own"
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(
        default=None, description="seed of the first image, plus 1 for each next image; default: random"
    )
    negative_prompt: PromptText | None = None
    deadline_s: Annotated[float, Field(gt=0, le=DAY_S, allow_inf_nan=False)] | None = Field(
        default=None, description="a request that still waits after this time is dropped; a running one is finished"
    )


class ImageRequest(ImageFields):
    """A request to a station. Null means the same as leaving a field out."""

    num_inference_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = Field(
        default=None, description="denoising steps; the server may have a lower limit"
    )
    service_class: Annotated[int, Field(ge=0, le=MAX_CLASSES - 1)] | None = Field(
        default=None, description="priority: class 0 is served first; default: 0"
    )


class Image(BaseModel):
    """One image: inline, or the address of its file."""

    b64_json: str | None = Field(default=None, description="an image file, base64")
    url: str | None = Field(default=None, description="address of an image file, for an hour")


class ErrorDetail(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(BaseModel):
    """The body of every error."""

    error: ErrorDetail


class Cost(BaseModel):
    """What the images cost. Servers other than edgebrush do not report it."""

    steps_used: int | None = None
    served_by: str | None = None
    queue_s: Seconds | None = Field(default=None, description="from admission to the first step of the last image")
    compute_s: Seconds | None = Field(
        default=None, description="from an image's first step to its end; the longest of all images"
    )
    energy_j: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="by the profile: the images' shares of their rounds, plus the fixed energy per image"
    )


class ImageReply(Cost):
    """The images and their cost."""

    created: int = Field(description="Unix time")
    data: list[Image]
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat = "png"
    size: str | None = Field(default=None, description="of the first image")
    ignored: list[str] = Field(default=[], description="fields of the request that had no effect")
    errors: list[ErrorDetail] = Field(default=[], description="one per image that could not be made, of several")


class StreamEvent(BaseModel):
    """What both events of a stream have."""

    b64_json: str
    created_at: int
    size: str
    background: Literal["opaque"] = "opaque"
    output_format: OutputFormat = "png"
    quality: Literal["auto"] = "auto"


class PartialImage(StreamEvent):
    """An event of a stream: the sample after a denoising step."""

    type: Literal["image_generation.partial_image"] = "image_generation.partial_image"
    partial_image_index: Count
    step: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=1)]


class TokenDetails(BaseModel):
    image_tokens: int = 0
    text_tokens: int = 0


class Usage(BaseModel):
    """OpenAI's count of tokens, all 0: these models have none."""

    input_tokens: int = 0
    input_tokens_details: TokenDetails = TokenDetails()
    output_tokens: int = 0
    total_tokens: int = 0


class CompletedImage(StreamEvent, Cost):
    """The last event of a stream: the image and its cost."""

    type: Literal["image_generation.completed"] = "image_generation.completed"
    usage: Usage = Usage()
    ignored: list[str] = []


JobStatus = Literal["queued", "in_progress", "completed", "failed", "cancelled"]


class JobReply(BaseModel):
    """A job that was accepted with ``Prefer: respond-async``."""

    id: str
    status: JobStatus
    queue_position: Count = Field(description="1 is next; 0 when the job runs or has ended")
    steps_done: Count = Field(description="denoising steps done, over all images")
    steps: Count
    result: ImageReply | None = None
    error: ErrorDetail | None = None


class Load(BaseModel):
    """The broadcast: a station's load, with the names of ``decision/observation.py``, as in ``sim/world.py``.

    Lists have one entry per service class.
    """

    name: str
    time: float = Field(description="Unix time on the station's clock")
    running: Count = Field(description="images in the batch")
    steps_left: Count = Field(description="remaining denoising steps, summed over the running images")
    waiting: list[Count] = Field(description="waiting images")
    waiting_steps: list[Count] = Field(description="denoising steps of the waiting images")
    connections: Count = Field(description="requests being processed or answered")
    round_s: Seconds = Field(description="duration of the last round; 0 before the first")
    batch_limit: Count
    queue_limit: Count
    connection_limit: Count


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    guidance_scale: float | None = Field(default=None, description="of a request that states none; only at a station")


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    status: Literal["ok"] = "ok"
