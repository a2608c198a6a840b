"""The documents match the repository: every link leads somewhere, and every room and file has its place."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "edgebrush"
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())
PLAN = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
RESULTS = ROOT / "docs" / "results"
LINK = re.compile(r"\]\(([^)#\s]+)")


def test_the_floor_plan_names_every_room():
    assert sorted(re.findall(r"^  (\w+)/ ", PLAN, re.MULTILINE)) == ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_page_in_the_api_reference(room):
    assert "<!-- room -->" in (ROOT / "docs" / "api" / f"{room}.md").read_text()
    assert f"api/{room}.md" in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_first_line_of_every_file_says_what_it_is_for(path):
    """The file tables of the API reference are made from these lines."""
    module = ast.parse(path.read_text())
    assert ast.get_docstring(module) or (path.name == "__init__.py" and not module.body)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in LINK.findall(document.read_text()):
        assert target.startswith("https:") or (document.parent / target).exists(), target


def test_results_hold_only_what_a_page_cites():
    cited = {(page.parent / target).resolve() for page in DOCUMENTS for target in LINK.findall(page.read_text())}
    files = {path.resolve() for path in RESULTS.rglob("*") if path.is_file()}
    assert files - cited - {(RESULTS / "README.md").resolve()} == set()


def test_the_security_page_cites_tests_that_exist():
    cited = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text()))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(cited) > 20 and not cited - set(re.findall(r"^(?:async )?def (test_\w+)", tests, re.MULTILINE))


def test_the_glossary_has_at_most_40_terms():
    terms = re.findall(r"^\| \*\*(.+?)\*\* \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert 20 < sum(len(row.split(", ")) for row in terms) <= 40


def test_the_citation_file_is_valid_yaml_and_has_what_citing_needs():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "title", "authors", "version", "license"} <= set(citation)
