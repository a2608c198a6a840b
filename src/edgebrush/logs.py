"""Logs of one line per record, without secrets and control characters, whatever a record quotes from outside."""

from __future__ import annotations

import logging
import re
from types import TracebackType
from typing import Any

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
INDENT = "    "  # of a traceback's lines, so that none passes for a record
MAX_LINE = 4000  # characters
HIDDEN = "***"
MIN_SECRET = 4  # characters
SECRETS = (
    (re.compile(r"(?<=://)[^/?#\s]*(?=@)"), HIDDEN),  # user and password of a URL
    (re.compile(r"(/[^\s?'\"]*)\?[^\s'\"]+"), rf"\1?{HIDDEN}"),  # the query of a URL or path
    (re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?)(\w+\s+)?[^\s'\",;}]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{8,}"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)((?:token|password|secret|api[-_]?key)(?:=|['\"]:\s*['\"]))[^\s'\"&,;}]+"), rf"\1{HIDDEN}"),
)
_own_secrets: set[str] = set()


def configure_logging() -> None:
    """Log warnings and errors of the whole process to stderr, unless its logs are configured already."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def hide_in_logs(secret: str) -> None:
    """Hide a token of this process wherever it appears in a log, such as in another server's error message.

    A shorter one than ``MIN_SECRET`` is no secret, and hiding it would damage words.
    """
    if len(secret) >= MIN_SECRET:
        _own_secrets.add(secret)


class LineFormatter(logging.Formatter):
    """Formats each record as one safe line; a traceback follows in indented lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return safe_line(super().formatMessage(record))

    def formatException(self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | Any) -> str:
        return "\n".join(INDENT + safe_line(line) for line in super().formatException(ei).splitlines())

    def formatStack(self, stack_info: str) -> str:
        return "\n".join(INDENT + safe_line(line) for line in stack_info.splitlines())


def safe_line(text: str) -> str:
    """``text`` as one printable line of limited length: secrets hidden, control characters escaped.

    Escaped are line ends, terminal sequences and characters that change the direction of text.
    """
    for secret in _own_secrets:
        text = text.replace(secret, HIDDEN)
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 3] + "..."
