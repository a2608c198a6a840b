"""The routes that list what a server offers as a model."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import FastAPI, Path

from .errors import ApiError, error_responses
from .schema import MAX_NAME, MODELS_PATH, Model, ModelList


def add_model_routes(
    app: FastAPI, name: str, owner: str, dependencies: list[Any] | None = None, guidance: float | None = None
) -> None:
    """List the one model of a server, with its default guidance, and describe it by its name."""
    model = Model(id=name, created=int(time.time()), owned_by=owner, guidance_scale=guidance)

    @app.get(
        MODELS_PATH,
        dependencies=dependencies,
        response_model_exclude_none=True,
        responses=error_responses(400, 401, 408, 413),
    )
    async def models() -> ModelList:
        """The models of this server: one."""
        return ModelList(data=[model])

    @app.get(
        MODELS_PATH + "/{model_id:path}",
        dependencies=dependencies,
        response_model_exclude_none=True,
        responses=error_responses(400, 401, 404, 408, 413, 422),
    )
    async def retrieve_model(model_id: Annotated[str, Path(max_length=MAX_NAME)]) -> Model:
        """The model with a name."""
        if model_id != name:
            message = f"model = {model_id!r}: this server has {name}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return model
