"""Which program answers at an address, by the models that it lists."""

from __future__ import annotations

import json
from typing import Any

from edgebrush.scenario.schema import EndpointKind

from .client import ImagesClient
from .loads import parse_load

SD_CPP_MODEL = "sd-cpp-local"  # the only name that sd.cpp lists
OWNERS: dict[str, EndpointKind] = {
    "vllm": "vllm-omni",
    "sglang": "sglang",
    "openai": "openai",
    "system": "openai",
    "openai-internal": "openai",
}


async def guess_kind(client: ImagesClient) -> EndpointKind | None:
    """The kind of the server that ``client`` reaches, whatever its endpoint says; None where nothing tells it.

    Raises ``StationError`` or ``httpx2.HTTPError`` where there is no answer.
    """
    if await is_edgebrush(client):
        return "edgebrush"
    for model in await list_models(client):
        if model.get("id") == SD_CPP_MODEL:
            return "sd.cpp"
        if "owned_by" not in model:
            return "localai"  # the only one that names no owners
        if model["owned_by"] in OWNERS:
            return OWNERS[model["owned_by"]]
    return None


async def is_edgebrush(client: ImagesClient) -> bool:
    """Whether the server reports its load as an `edgebrush serve` does."""
    exchange = await client.get(f"{client.base_url}/load")
    try:
        parse_load(exchange.body, 0.0, 1)
    except ValueError:
        return False
    return True


async def list_models(client: ImagesClient) -> list[dict[str, Any]]:
    """What the page of models lists; empty where it is missing. Raises ``StationError`` or ``httpx2.HTTPError``."""
    exchange = await client.get(f"{client.base_url}/models")
    try:
        models = json.loads(exchange.body)["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return [each for each in models if isinstance(each, dict)] if isinstance(models, list) else []
