"""Request logs (traces) in the GenTD26 columns: time, user, number of images."""

from __future__ import annotations

import csv
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edgebrush.errors import UserError

COLUMNS = ("gmt_create", "groupId", "num_images_per_prompt")
MAX_IMAGES = 16


@dataclass(frozen=True)
class Trace:
    """Requests, sorted by time."""

    time_s: np.ndarray  # (R,) seconds from the first request
    user: np.ndarray  # (R,) str
    images: np.ndarray  # (R,) int64, number of images


def read_trace(path: Path) -> Trace:
    """Read a CSV with at least the columns ``COLUMNS``. Raises ``UserError`` naming the line and the fix."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path}: column {missing[0]!r} is missing; a trace needs {', '.join(COLUMNS)}")
            rows = [_read_row(path, reader.line_num, row) for row in reader]
    except OSError as error:
        raise UserError(f"{path}: trace cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8: {error}") from None
    if len(rows) < 2:
        raise UserError(f"{path}: holds {len(rows)} requests; a trace needs at least 2")
    rows.sort(key=lambda row: row[0])
    time_s = np.array([row[0] for row in rows])
    if time_s[-1] == time_s[0]:
        raise UserError(f"{path}: all requests have the same gmt_create; a trace needs times that differ")
    return Trace(time_s - time_s[0], np.array([row[1] for row in rows]), np.array([row[2] for row in rows]))


def _read_row(path: Path, line: int, row: dict[str, str]) -> tuple[float, str, int]:
    for column in COLUMNS:
        if row[column] is None:
            raise UserError(f"{path}: line {line}: {column} is missing; a row needs {', '.join(COLUMNS)}")
    try:
        time = datetime.fromisoformat(row["gmt_create"])
    except ValueError:
        raise UserError(
            f"{path}: line {line}: gmt_create = {row['gmt_create']!r} is not a time; write 2024-11-15 16:57:50"
        ) from None
    try:
        images = float(row["num_images_per_prompt"] or 1)
    except ValueError:
        images = float("nan")
    if not (images.is_integer() and 1 <= images <= MAX_IMAGES):
        raise UserError(
            f"{path}: line {line}: num_images_per_prompt = {row['num_images_per_prompt']!r} must be a whole "
            f"number from 1 to {MAX_IMAGES}"
        )
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)  # local time would have a gap where summer time begins
    return time.timestamp(), row["groupId"], int(images)


def replay(trace: Trace, ue_count: int, task_rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Arrival times and UEs of the trace's tasks, one row per image, scaled to ``task_rate_hz`` overall.

    The CRC-32 of its name maps a user to a fixed UE.
    """
    tasks = int(trace.images.sum())
    scale = tasks / task_rate_hz / trace.time_s[-1]
    ue_of_user = np.array([zlib.crc32(user.encode()) % ue_count for user in trace.user])
    return np.repeat(trace.time_s * scale, trace.images), np.repeat(ue_of_user, trace.images)
