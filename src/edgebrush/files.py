"""Atomic writes: a file appears complete or not at all. It is written under a temporary name, then renamed."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgebrush.errors import UserError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path with the same suffix, renamed to ``path`` when the block succeeds and removed when it fails.

    Raises ``UserError`` where the file cannot be written.
    """
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from None
    finally:
        with suppress(OSError):  # it was renamed, or never written
            unfinished.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes. Raises ``UserError`` where the file cannot be written."""
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8. Raises ``UserError`` where the file cannot be written."""
    write_bytes(path, text.encode())


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, one column per key in order of appearance. Raises ``UserError`` where it cannot be written."""
    columns = dict.fromkeys(column for row in rows for column in row)
    with atomic_write(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def check_writable(folder: Path) -> None:
    """Check that files can be created in a folder, which is created if missing. Raises ``UserError`` if not."""
    probe = folder / f".unfinished-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"out = {str(folder)!r}: cannot be written: {error.strerror}; choose another folder") from None
