"""The profiles that ship with the package, and those that lie beside a scenario."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import ValidationError

from edgebrush.errors import UserError, explain

from .schema import Profile

CATALOGUE = Path(__file__).parent / "catalogue"


def catalogue_names() -> list[str]:
    """Names of the profiles that ship with the package."""
    return sorted(path.stem for path in CATALOGUE.glob("*.json"))


def load_profile(name: str, directory: Path = Path()) -> Profile:
    """The profile of this name, or of this file (``*.json``, relative to ``directory``).

    Raises ``UserError`` where there is none or it does not hold what a profile must.
    """
    path = Path(directory) / name if name.endswith(".json") else CATALOGUE / f"{name}.json"
    return read_profile(path.resolve(), name)


@cache
def read_profile(path: Path, name: str) -> Profile:
    """The profile in a JSON file; ``name`` is how the user called it."""
    try:
        return Profile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        known = ", ".join(catalogue_names())
        raise UserError(f"profile {name!r} is not there; give a .json file or one of: {known}") from None
    except OSError as error:
        raise UserError(f"profile {name!r} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise UserError(explain(error, f"profile {name!r}")) from None
