"""Find and read profiles: those that ship with the package, and JSON files of a user's own."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import ValidationError

from edgebrush.errors import UserError, explain

from .schema import Profile

CATALOGUE = Path(__file__).parent / "catalogue"


def catalogue_names() -> list[str]:
    """Return the names of the profiles that ship with the package, sorted."""
    return sorted(path.stem for path in CATALOGUE.glob("*.json"))


def load_profile(name: str, directory: Path = Path()) -> Profile:
    """Load a profile that ships by its name, or one in a file (``*.json``, relative to ``directory``).

    Raises ``UserError`` if there is no such profile or its content is invalid.
    """
    path = Path(directory) / name if name.endswith(".json") else CATALOGUE / f"{name}.json"
    return read_profile(path.resolve(), name)


@cache
def read_profile(path: Path, name: str) -> Profile:
    """Read a profile from a JSON file. Error messages use ``name``, which is what the user wrote.

    Raises ``UserError`` if the file is missing, unreadable or invalid.
    """
    try:
        return Profile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        known = ", ".join(catalogue_names())
        raise UserError(f"profile {name!r} not found; give a .json file or one of: {known}") from None
    except OSError as error:
        raise UserError(f"profile {name!r} cannot be read: {error.strerror}; give a .json file") from None
    except ValidationError as error:
        raise UserError(explain(error, f"profile {name!r}")) from None
