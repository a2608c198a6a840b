"""What becomes of each task, as lines of JSON that outlive the process: accepted, decided, sent, failed over, ended.

The file is log and journal in one. A task is accepted once and ends once, in an image or an error; what was accepted
and has not ended when the process dies is what the next one must end. Lines are flushed to the system, so they survive
the process, not the machine's power. Durations come from the monotonic clock; the wall clock only labels lines.
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

TASKS, IMAGES = "tasks.jsonl", "images"
KEPT = 1000  # ended tasks that are still known after a restart, with their images


@dataclass(frozen=True)
class Task:
    """An image that somebody asked for. ``id`` is unique; ``accepted_s`` on the monotonic clock."""

    id: str
    prompt: str
    request: str  # the scenario's kind of request
    seed: int
    negative: str = ""
    guidance: float = 1.0
    deadline_s: float | None = None  # after acceptance; None: the kind's own
    accepted_s: float = 0.0


@dataclass(frozen=True)
class Ended:
    """How a task ended: in an image (the bytes of a picture file), or with ``error``, a line that says why not."""

    task: str
    image: bytes | None
    error: str = ""
    place: str = ""  # the UE's own device ("own") or a BS's name
    steps: int = 0
    service_class: int = 0
    delay_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    energy_ue_j: float = 0.0
    energy_bs_j: float = 0.0
    missed: bool = False
    attempts: int = 0


class Journal:
    """The journal in a folder. ``unended`` are the tasks that an earlier process left; raises ``UserError``."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / TASKS
        try:
            (folder / IMAGES).mkdir(parents=True, exist_ok=True)
            self.lock = open(folder / "lock", "a", encoding="utf-8")  # noqa: SIM115
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a process's death opens it
            lines = self._read()
            self._shorten(lines)
            self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  (for as long as the agent lives)
        except BlockingIOError:
            raise UserError(f"journal = {str(folder)!r}: another agent is at work on it; give another") from None
        except OSError as error:
            raise UserError(f"journal = {str(folder)!r}: cannot be written: {error.strerror}; give another") from None
        tasks = {line["task"]: Task(**line["wanted"]) for line in lines if line["event"] == "accepted"}
        self.ended = {line["task"]: Ended(**line["ended"]) for line in lines if line["event"] == "ended"}
        self.unended = [task for name, task in tasks.items() if name not in self.ended]

    def accept(self, task: Task) -> None:
        """Note a task before anything is done for it."""
        self.write(task.id, "accepted", wanted=asdict(task))

    def end(self, ended: Ended) -> None:
        """Note how a task ended; its image is there before the line that says so."""
        if ended.image is not None:
            write_bytes(self.image_path(ended.task), ended.image)
        kept = replace(ended, image=None)
        self.ended[ended.task] = kept
        self.write(ended.task, "ended", ok=ended.image is not None, ended=asdict(kept))

    def result(self, task: str) -> Ended | None:
        """How a task ended, with its image; None where it has not."""
        ended = self.ended.get(task)
        if ended is None or ended.error:
            return ended
        return replace(ended, image=self.image_path(task).read_bytes())

    def write(self, task: str, event: str, **said: Any) -> None:
        """One line, whole, at once."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"task": task, "event": event, "at_s": round(time.monotonic(), 6), "time": now, **said}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()
        self.lock.close()

    def image_path(self, task: str) -> Path:
        return self.folder / IMAGES / f"{task}.png"

    def _read(self) -> list[dict[str, Any]]:
        """The lines that are there; one that a dying process left half written is not."""
        if not self.path.is_file():
            return []
        lines = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
        return lines

    def _shorten(self, lines: list[dict[str, Any]]) -> None:
        """Forget the oldest ended tasks, and write what is kept as whole lines."""
        ended = [line["task"] for line in lines if line["event"] == "ended"]
        forgotten = set(ended[:-KEPT])
        for task in forgotten:
            self.image_path(task).unlink(missing_ok=True)
        lines[:] = [line for line in lines if line["task"] not in forgotten]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))
