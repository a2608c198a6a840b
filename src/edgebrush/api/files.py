"""Image files for download: kept in memory for an hour, at addresses that cannot be guessed.

The address is the permission: whoever has it gets the file without a token, as with OpenAI's image addresses.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Response

from .errors import ApiError, error_responses
from .pictures import MEDIA_TYPES

FILES_PATH = "/files/"
KEPT_S = 3600.0
MAX_FILES = 1000
MAX_BYTES = 64 * 2**20
NAME_BYTES = 24  # of randomness in a name
HEADERS = {
    "cache-control": f"private, max-age={KEPT_S:.0f}, immutable",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
}


@dataclass(frozen=True)
class File:
    content: bytes
    media_type: str
    added_s: float


class FileStore:
    """Files by name, oldest first. The oldest are deleted after an hour, or earlier where there is no room."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock, self.files = clock, OrderedDict[str, File]()
        self.bytes = 0

    def keeper(self, base_url: str) -> Callable[[bytes, str], str]:
        """A function that keeps a file (content, media type) and returns its address at a server."""
        return lambda content, media_type: base_url.rstrip("/") + FILES_PATH + self.add(content, media_type)

    def add(self, content: bytes, media_type: str) -> str:
        """Keep a file. Returns its name."""
        name = f"{secrets.token_urlsafe(NAME_BYTES)}.{media_type.partition('/')[2]}"
        self.files[name] = File(content, media_type, self.clock())
        self.bytes += len(content)
        self._delete_old()
        return name

    def get(self, name: str) -> File | None:
        """The file of a name; None where it is unknown or deleted."""
        self._delete_old()
        return self.files.get(name)

    def _delete_old(self) -> None:
        while self.files and self._is_oldest_too_much():
            _, oldest = self.files.popitem(last=False)
            self.bytes -= len(oldest.content)

    def _is_oldest_too_much(self) -> bool:
        oldest = next(iter(self.files.values()))
        too_many = len(self.files) > MAX_FILES or self.bytes > MAX_BYTES
        return too_many or self.clock() - oldest.added_s >= KEPT_S


def add_file_route(app: FastAPI, store: FileStore) -> None:
    """Serve the store's files."""
    responses: dict[int | str, dict[str, Any]] = {
        200: {"content": {media_type: {} for media_type in MEDIA_TYPES.values()}},
        **error_responses(404, 408, 413),
    }

    @app.get(FILES_PATH + "{name}", response_class=Response, responses=responses)
    async def file(name: str) -> Response:
        """An image that was requested with `response_format: url`. It needs no token."""
        found = store.get(name)
        if found is None:
            message = "no such file; images are kept for an hour"
            raise ApiError(404, message, param="name", code="file_not_found")
        return Response(found.content, media_type=found.media_type, headers=HEADERS)
