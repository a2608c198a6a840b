"""The package from outside: what it exports, what its parts import, and which way the imports point."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgebrush

PACKAGE = Path(edgebrush.__file__).parent
ARCHITECTURE = PACKAGE.parent.parent / "docs" / "architecture.md"
TABLE_ROW = re.compile(r"^\| `(\w+)` \|(.*)\|$", re.MULTILINE)


def allowed_imports() -> dict[str, set[str]]:
    """For each room the rooms that it may import, by the table in docs/architecture.md."""
    rows = TABLE_ROW.findall(ARCHITECTURE.read_text())
    return {room: set(re.findall(r"`(\w+)`", cell)) for room, cell in rows}


ALLOWED = allowed_imports()
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__")
BELOW = ("errors", "files", "logs", "machine", "progress", "plotting", "traces")  # every room may import these


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.process
def test_importing_the_package_is_cheap():
    assert not loaded_by("import edgebrush") & {"numpy", "gymnasium", "jax", "numba", "pydantic", "matplotlib", "scipy"}


@pytest.mark.process
def test_a_ue_agent_needs_numpy_alone():
    loaded = loaded_by("import edgebrush.policies.folder, edgebrush.policies.rules, edgebrush.decision.observation")
    assert "numpy" in loaded
    assert not loaded & {"jax", "numba", "equinox", "optax", "torch", "scipy", "matplotlib"}


@pytest.mark.parametrize("name", edgebrush.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(edgebrush, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = edgebrush.nonsense


def parts_imported_by(path: Path) -> set[str]:
    """The package's own parts (rooms, and what lies below them) that a file imports by their full names."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            modules += [node.module] if node.module != "edgebrush" else [f"edgebrush.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return {module.split(".")[1] for module in modules if module.startswith("edgebrush.")}


def test_the_page_lists_every_room():
    assert sorted(ALLOWED) == ROOMS


def test_the_rooms_form_no_circle():
    left = {room: set(cell) for room, cell in ALLOWED.items()}
    while left:
        ground = {room for room, cell in left.items() if not cell & set(left)}
        assert ground, f"a circle among {sorted(left)}"
        left = {room: cell for room, cell in left.items() if room not in ground}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_downward(room):
    for path in (PACKAGE / room).rglob("*.py"):
        for part in parts_imported_by(path):
            assert part in {room, *ALLOWED.get(room, ()), *BELOW}, f"{path.name} imports edgebrush.{part}"


@pytest.mark.process
@pytest.mark.parametrize("module", BELOW)
def test_what_lies_below_all_needs_no_room_and_no_package(module):
    path = PACKAGE / f"{module}.py"
    assert parts_imported_by(path) <= set(BELOW)
    assert not loaded_by(f"import edgebrush.{module}") & {"pydantic", "jax", "numba"}
