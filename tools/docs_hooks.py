"""MkDocs hooks: pages made from the repository, file tables of the API pages, links that leave docs/.

- CONTRIBUTING.md and CHANGELOG.md become pages, so there is one copy of each.
- ``<!-- room -->`` in docs/api/<room>.md becomes what the room may import, its files, and the reference of each.
- A link to a file outside docs/ has no page to lead to: its text stays, the link goes.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS, PACKAGE = ROOT / "docs", ROOT / "src" / "edgebrush"
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
MARKER = "<!-- room -->"
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose text is kept at the root of the repository."""
    for source, page in ROOT_PAGES.items():
        if not (DOCS / page).exists():
            files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in an API page and rewrite the links that leave docs/."""
    uri = page.file.src_uri
    if MARKER in markdown:
        markdown = markdown.replace(MARKER, room_reference(Path(uri).stem))
    written_in = ROOT if uri in ("contributing.md", "changelog.md") else (DOCS / uri).parent
    return LINK.sub(lambda link: site_link(link, written_in, (DOCS / uri).parent), markdown)


def site_link(link: re.Match[str], written_in: Path, page_folder: Path) -> str:
    """A Markdown link as the site needs it: relative to its page, or its text alone where no page holds the target."""
    text, target, anchor = link[1], link[2], link[3] or ""
    if re.match(r"\w+:", target):
        return link[0]
    path = Path(os.path.normpath(written_in / target))
    if path.parent == ROOT and path.name in ROOT_PAGES:
        path = DOCS / ROOT_PAGES[path.name]
    if path.is_relative_to(DOCS):
        return f"[{text}]({os.path.relpath(path, page_folder)}{anchor})"
    return text if path.exists() else link[0]  # a broken link stays, and fails the strict build


def room_reference(room: str) -> str:
    """What a room may import, its files with their first lines, and the generated reference of each file."""
    modules = list(modules_of(room))
    head = f"May import: {may_import(room)}.\n\n| file | what it is for |\n|---|---|\n"
    rows = (f"| [`{path.relative_to(PACKAGE / room)}`](#{name}) | {first_line(path)} |\n" for path, name in modules)
    return head + "".join(rows) + "\n## Reference\n" + "\n\n".join(f"::: {name}" for _, name in modules)


def modules_of(room: str) -> Iterator[tuple[Path, str]]:
    """Every module of a room with its dotted name; ``__init__.py`` only where it defines something."""
    for path in sorted((PACKAGE / room).rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if path.name != "__init__.py":
            yield path, ".".join(("edgebrush", *parts))
        elif any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text(encoding="utf-8")).body):
            yield path, ".".join(("edgebrush", *parts[:-1]))


def first_line(path: Path) -> str:
    """The first sentence block of a module's docstring, on one line and fit for a table's cell."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|").replace("``", "`")


def may_import(room: str) -> str:
    """The cell of the architecture page's table."""
    table = (DOCS / "architecture.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{room}` \|(.*)\|$", table, re.MULTILINE)
    if row is None:
        raise KeyError(f"docs/architecture.md has no row for the room {room}")
    return row[1].strip() or "no other room"
