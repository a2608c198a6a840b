"""What stations and agents make of a request's fields alike: models, sizes, seeds, and fields without effect."""

from __future__ import annotations

import re
from collections.abc import Collection

from .errors import ApiError
from .schema import MAX_SEED, OpenAiFields

OPENAI_MODELS = re.compile(r"(gpt-image|chatgpt-image|dall-e)-[\w.-]+")
OPENAI_SIZES = {"1024x1024", "1536x1024", "1024x1536", "256x256", "512x512", "1792x1024", "1024x1792"}
WITHOUT_EFFECT = ("quality", "style", "complexity", "moderation", "user", "safety_identifier")


def check_request(request: OpenAiFields, model: str, sizes: Collection[str]) -> None:
    """Raises ``ApiError`` for a model, a size or a combination of fields that no image can be made for."""
    if request.model not in (None, model) and not OPENAI_MODELS.fullmatch(request.model or ""):
        message = f"model = {request.model!r}: this server has {model}; leave the field out"
        raise ApiError(404, message, param="model", code="model_not_found")
    if request.size not in (None, "auto", *sizes, *OPENAI_SIZES):
        message = f"size = {request.size!r}: must be {' or '.join(sizes)}, auto, or a standard size of OpenAI's"
        raise ApiError(400, message, param="size", code="invalid_value")
    if request.stream and (request.n or 1) > 1:
        raise ApiError(400, f"n = {request.n}: a stream carries one image; set n to 1", param="n", code="invalid_value")
    if request.stream and request.response_format == "url":
        message = "response_format = 'url': a stream carries its image inline; leave the field out"
        raise ApiError(400, message, param="response_format", code="invalid_value")


def ignored_fields(request: OpenAiFields, model: str, sizes: Collection[str]) -> list[str]:
    """The given fields that have no effect, with values that ask for something: neither null nor auto."""
    given = {name for name, value in request.model_dump().items() if value not in (None, "", "auto")}
    ignored = {
        *WITHOUT_EFFECT,
        *(["model"] if request.model != model else []),
        *(["size"] if request.size not in sizes else []),
        *(["output_compression"] if request.output_format in (None, "png") else []),
        *([] if request.stream or not request.partial_images else ["partial_images"]),
    }
    return sorted(given & ignored)


def image_seeds(first: int, count: int) -> list[int]:
    """The seeds of a request's images: consecutive, from 0 again after the largest."""
    return [(first + number) % (MAX_SEED + 1) for number in range(count)]
