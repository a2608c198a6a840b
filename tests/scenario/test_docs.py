"""docs/scenarios.md explains every field, and its defaults are those of the schema."""

import re
from pathlib import Path

import pytest

from edgebrush.scenario import schema

DOC = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text()
PARTS = [
    part
    for part in vars(schema).values()
    if isinstance(part, type) and issubclass(part, schema.Part) and part is not schema.Part
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_field_is_explained(part):
    fields = [name for name, field in part.model_fields.items() if not field.exclude]
    assert fields
    assert [name for name in fields if f"`{name}`" not in DOC] == []


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_defaults_are_the_schema_s(part):
    """Rows with one field and one number as its default."""
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d,.e]+) \|", DOC, re.MULTILINE))
    for name, field in part.model_fields.items():
        if name in rows and isinstance(field.default, (int, float)) and name not in ("queue_limit", "count"):
            assert float(rows[name].replace(",", "")) == field.default, name
