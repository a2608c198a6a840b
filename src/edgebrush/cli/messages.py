"""Messages on standard error: one coloured line each for people, or a log record where logs are JSON."""

from __future__ import annotations

import logging

from edgebrush.logs import logs_are_json, safe_line

STYLES = {logging.ERROR: "red", logging.WARNING: "yellow"}

log = logging.getLogger(__name__)


def print_line(message: str, level: int = logging.INFO) -> None:
    """Print one unwrapped line on stderr."""
    line = safe_line(" ".join(message.split()))
    if logs_are_json():
        log.log(level, "%s", line)
        return
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(line, STYLES.get(level, "")), soft_wrap=True)
