"""User errors: what the user gave cannot be used. One clear line, no traceback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

REASONS = {  # pydantic's error types in plain words; the braces are filled from the error's context
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping of fields",
    "extra_forbidden": "no such field; remove it or check its spelling",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_type": "must be a whole number",
    "json_invalid": "not valid JSON: {error}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "missing": "this field is missing; add it",
    "model_attributes_type": "must be a mapping of fields",
    "model_type": "must be a mapping of fields",
    "path_type": "must be the path of a file",
    "string_pattern_mismatch": "must be lower-case letters, digits and hyphens",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "string_type": "must be text; put it in quotes",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entries",
    "tuple_type": "must be a list",
    "union_tag_invalid": "kind must be one of {expected_tags}",
    "union_tag_not_found": "kind is missing; give `kind: poisson`, bursty or trace",
    "value_error": "{error}",
}
WITHOUT_VALUE = {"extra_forbidden", "missing", "json_invalid"}  # the value would not help the user here


class UserError(Exception):
    """The user's input cannot be used; the message names the field, the value and the fix."""


def most_specific_problem(problems: Sequence[Any]) -> Any:
    """The most specific of pydantic's errors: for a misspelt field "unknown" rather than "missing"."""
    return next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])


def explain(error: ValidationError, where: str) -> str:
    """The most specific problem of a pydantic error as one line: ``where: field.path = value: reason``."""
    problems = error.errors()
    first = most_specific_problem(problems)
    path = ".".join(str(part) for part in first["loc"])
    value = first["input"]
    if path and first["type"] not in WITHOUT_VALUE and not isinstance(value, dict):
        shown = repr(value)
        path += f" = {shown if len(shown) <= 80 else shown[:77] + '...'}"
    reason = REASONS.get(first["type"], first["msg"]).format(**first.get("ctx", {}))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ": ".join(part for part in (where, path, reason + more) if part)
