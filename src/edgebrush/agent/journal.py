"""The journal of an agent: every event of every task as a line of JSON, from which a new process resumes.

Events are accepted, decided, sent, failed over, resumed and ended. A task is accepted once and ends once, with an image
or an error. If the process dies, the next one resumes the accepted tasks that have not ended. Lines are flushed to the
operating system, so they survive the process, but not a power failure. Durations are on the monotonic clock; the wall
clock only labels lines.
"""

from __future__ import annotations

import fcntl
import json
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgebrush.errors import UserError
from edgebrush.files import write_bytes, write_text

from .failures import FailureKind

TASKS, IMAGES = "tasks.jsonl", "images"
KEPT_TASKS = 1000  # ended tasks that are kept at a start, with their images


@dataclass(frozen=True)
class Task:
    """A requested image. ``id`` is unique; ``accepted_s`` is on the monotonic clock."""

    id: str
    prompt: str
    request: str  # kind of request in the scenario
    seed: int
    negative: str = ""
    guidance: float = 1.0
    deadline_s: float | None = None  # after acceptance; None: that of the kind of request
    accepted_s: float = 0.0


@dataclass(frozen=True)
class TaskResult:
    """How a task ended: with ``image`` (the bytes of an image file), or with ``error``, the reason in one line."""

    task: str
    image: bytes | None
    error: str = ""
    place: str = ""  # "own" (the UE's device) or the name of a BS
    steps: int = 0
    service_class: int = 0
    delay_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    energy_ue_j: float = 0.0
    energy_bs_j: float = 0.0
    missed: bool = False
    attempts: int = 0
    kind: FailureKind = ""  # of the error
    retry_after_s: float = 0.0  # for the kind "overload": when to try again


class Journal:
    """The journal in a folder.

    ``results`` maps ids of ended tasks to results without images; ``unfinished`` are the tasks that an earlier process
    left. Raises ``UserError`` where the folder cannot be used.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / TASKS
        try:
            (folder / IMAGES).mkdir(parents=True, exist_ok=True)
            self.lock_file = open(folder / "lock", "a", encoding="utf-8")  # noqa: SIM115
            fcntl.flock(self.lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends
            lines = self._read_lines()
            self._compact(lines)
            self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  (for as long as the agent lives)
        except BlockingIOError:
            raise UserError(f"journal = {str(folder)!r}: another agent uses it; give another folder") from None
        except OSError as error:
            raise UserError(
                f"journal = {str(folder)!r}: cannot be written: {error.strerror}; give another folder"
            ) from None
        tasks = {line["task"]: Task(**line["wanted"]) for line in lines if line["event"] == "accepted"}
        self.results = {line["task"]: TaskResult(**line["ended"]) for line in lines if line["event"] == "ended"}
        self.unfinished = [task for id, task in tasks.items() if id not in self.results]

    def accept(self, task: Task) -> None:
        """Record a task before any work on it starts."""
        self.write(task.id, "accepted", wanted=asdict(task))

    def end(self, result: TaskResult) -> None:
        """Record the end of a task. Its image file is written before the line that refers to it."""
        if result.image is not None:
            write_bytes(self.image_path(result.task), result.image)
        without_image = replace(result, image=None)
        self.results[result.task] = without_image
        self.write(result.task, "ended", ok=result.image is not None, ended=asdict(without_image))

    def result(self, task_id: str) -> TaskResult | None:
        """The result of a task, with its image; None where it has not ended."""
        result = self.results.get(task_id)
        if result is None or result.error:
            return result
        return replace(result, image=self.image_path(task_id).read_bytes())

    def write(self, task_id: str, event: str, **fields: Any) -> None:
        """Append one line and flush it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"task": task_id, "event": event, "at_s": round(time.monotonic(), 6), "time": now, **fields}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()
        self.lock_file.close()

    def image_path(self, task_id: str) -> Path:
        return self.folder / IMAGES / f"{task_id}.png"

    def _read_lines(self) -> list[dict[str, Any]]:
        """All complete lines. A crashed process may have left an incomplete last line, which is skipped."""
        if not self.path.is_file():
            return []
        lines = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
        return lines

    def _compact(self, lines: list[dict[str, Any]]) -> None:
        """Remove all but the newest ended tasks, and rewrite the file with the remaining lines."""
        ended = [line["task"] for line in lines if line["event"] == "ended"]
        removed = set(ended[:-KEPT_TASKS])
        for task in removed:
            self.image_path(task).unlink(missing_ok=True)
        lines[:] = [line for line in lines if line["task"] not in removed]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))
