"""Logs of one line per record, as text or JSON, without secrets and control characters, whatever a record quotes."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from edgebrush import traces

LogFormat = Literal["text", "json"]
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
FIELDS = (  # of a record (``extra`` of the logging call) that JSON shows as fields of their own
    "task",  # the id of an agent's task, or of a station's generation
    "place",  # "own" or a station, for an agent
    "station",
    "status",  # of an HTTP response; in the record of an end, "image" or the kind of error
    "reason",
    "seconds",  # from acceptance to the end
)
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


def configure_logging(format: LogFormat = "text", level: str = "warning") -> None:
    """Log to stderr: records of ``level`` and above from edgebrush, warnings and errors from other libraries.

    Where the process's logs are configured already, only what an earlier call has configured is changed.
    """
    formatter = JsonFormatter() if format == "json" else LineFormatter(FORMAT)
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for each in logging.getLogger().handlers:
        if isinstance(each.formatter, LineFormatter):
            each.setFormatter(formatter)
    logging.getLogger("edgebrush").setLevel(level.upper())


def logs_are_json() -> bool:
    """Whether stderr is expected to hold JSON alone."""
    return any(isinstance(each.formatter, JsonFormatter) for each in logging.getLogger().handlers)


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


class JsonFormatter(LineFormatter):
    """Formats each record, its traceback included, as one JSON object in one line of ASCII.

    The texts in it are as safe as lines of text: a viewer that decodes and prints them is not deceived either.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": safe_line(record.getMessage()),
        }
        for name in FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                entry[name] = value if isinstance(value, (int, float)) else safe_line(str(value))
        if trace_id := traces.current_trace_id():
            entry["trace_id"] = trace_id
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        return json.dumps(entry)


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
