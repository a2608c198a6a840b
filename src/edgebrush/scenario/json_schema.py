"""The JSON Schema of scenario files, for editors; ``presets/scenario.schema.json`` is a copy of it."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from .presets import PRESETS
from .schema import Scenario

SCHEMA = PRESETS / "scenario.schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _WithoutFieldTitles(GenerateJsonSchema):
    """Pydantic would title ``batch_limit`` "Batch Limit", which tells an editor's user nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """The schema of a scenario file: every field with its type, limits, default and description."""
    schema = Scenario.model_json_schema(schema_generator=_WithoutFieldTitles)
    del schema["properties"]["directory"]  # set by the loader, not by the file
    for part in schema["$defs"].values():
        if "const" in part["properties"].get("kind", {}):  # the loader needs it to tell the kinds apart
            part["required"] = ["kind", *part.get("required", ())]
    return {"$schema": DIALECT, **schema, "title": "An edgebrush scenario"}


def schema_text() -> str:
    """The schema as indented JSON."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
