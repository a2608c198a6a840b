"""The documents are true to the tree: the floor plan names every file, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLAN = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
ROOMS = dict(re.findall(r"^  (\w+)/ (.*?)(?=^  \w|^\w)", PLAN, re.MULTILINE | re.DOTALL))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_floor_plan_names_every_room():
    assert set(ROOMS) == {path.parent.name for path in (ROOT / "src" / "edgebrush").glob("*/__init__.py")}


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "cli"])  # cli is one file per verb
def test_the_floor_plan_names_every_file_of_a_room_and_no_other(room):
    there = {path.name for path in (ROOT / "src" / "edgebrush" / room).glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"\w+\.py", ROOMS[room])) == there


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        assert target.startswith("https:") or (document.parent / target).exists(), target
