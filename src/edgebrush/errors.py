"""Errors that a user can mend: one clear line, no traceback."""

from pydantic import ValidationError


class UserError(Exception):
    """What the user gave cannot be used; the message names the field, the value and the fix."""


def explain(error: ValidationError, where: str) -> str:
    """The first problem of a pydantic error as one line: ``where: field.path = value: reason``."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{where}: {path}: no such field; remove it or check its spelling"
    if first["type"] == "missing":
        return f"{where}: {path}: this field is missing; add it"
    shown = repr(first["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return f"{where}: {path} = {shown}: {reason}" if path else f"{where}: {reason}"
