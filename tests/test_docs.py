"""The documents are true to the tree: the architecture names every file, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "edgebrush"


def drawn_files() -> set[str]:
    """Python files that the picture in docs/architecture.md names, as paths below src/edgebrush."""
    picture = (ROOT / "docs" / "architecture.md").read_text().split("```")[1].split("\ntests/")[0]
    files, room = set(), ""
    for line in picture.splitlines():
        if entered := re.match(r"  (\w+/) ", line):
            room = entered[1]
        listed = re.match(r" +((?:\w+\.py(?:, )?)+)", line)
        files |= {room + name for name in listed[1].split(", ")} if listed else set()
    return files


def test_the_architecture_names_every_file_and_no_other():
    there = {str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.py")}
    assert drawn_files() == {path for path in there if not path.endswith("/__init__.py")}


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(document):
    text = re.sub(r"<!--.*?-->", "", (ROOT / document).read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("http") or ((ROOT / document).parent / target).exists(), target
