"""The FastAPI application that stations, agents and the testbed's live page begin with."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

# FastAPI's own traces take the parent from any client, and its logs and spans hold bodies and errors with prompts.
NO_TELEMETRY: Any = {"auto_configure": False, "tracing": False, "metrics": False, "logs": False}


def new_app(title: str, lifespan: Any = None) -> FastAPI:
    """An application without FastAPI's telemetry, and without its pages, which load scripts from elsewhere."""
    return FastAPI(title=title, lifespan=lifespan, docs_url=None, redoc_url=None, telemetry=NO_TELEMETRY)
