"""The journal under SIGKILL at any moment, in frozen copies, and on a disk that is really full."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from edgebrush.journal.database import FILE
from edgebrush.journal.reader import read_journal
from tests.support.journals import opened
from tests.support.processes import ENVIRONMENT, started
from tests.support.serving import until

pytestmark = pytest.mark.process

IMAGES = "/v1/images/generations"
WRITER = """
import asyncio, pathlib, sys
from edgebrush.journal import database, writer
from edgebrush.journal.journal import Journal
from edgebrush.journal.records import Task, TaskResult
database.WAL_BYTES, database.FREE_PAGES, writer.REMOVE_S = 100_000, 50, 0.02

async def one(journal, name):
    await journal.accept(Task(name, "circle", "waiting", 1))
    print("accepted", name, flush=True)
    for event in ("decided", "sent"):
        journal.write(name, event, reason="x" * 300)
    await journal.end(TaskResult(name, bytes(5000)))
    print("ended", name, flush=True)

async def main():
    journal = Journal(pathlib.Path(sys.argv[1]), keep_tasks=100_000)
    journal.writer.connection.execute("PRAGMA wal_autocheckpoint = 20")
    for n in range(1_000_000):
        await asyncio.gather(*(one(journal, f"{sys.argv[2]}-{n}-{m}") for m in range(5)))

asyncio.run(main())
"""


def check(folder, promised):
    """Every task that was promised is there once, with its image if it ended."""
    with opened(folder) as journal:
        events = [(line["event"], line["task"]) for line in read_journal(folder)]
        assert len(set(events)) == len(events)
        assert set(promised) <= set(events)
        accepted, ended = ({task for event, task in events if event == kind} for kind in ("accepted", "ended"))
        assert {task.id for task in journal.unfinished} == accepted - ended and ended <= accepted
        assert all(len(journal.result(task).image) == 5000 for task in ended)
    return len(ended)


def start_writer(folder, name, promises):
    """A process that writes a journal and its promises, which are lines "event task"."""
    arguments = [sys.executable, "-c", WRITER, str(folder), name]
    process = subprocess.Popen(arguments, stdout=open(promises, "a"), env=ENVIRONMENT)  # noqa: SIM115
    until(lambda: f"ended {name}-3" in promises.read_text(), 30)
    return process


def read_promises(path):
    return [tuple(line.split()) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def test_frozen_copies_have_every_promised_task_once(tmp_path):
    """The process is stopped at random moments, also within a transaction or a checkpoint, and its files are copied."""
    draw, promises = random.Random(1), tmp_path / "promises"
    process = start_writer(tmp_path / "journal", "a", promises)
    try:
        counts = []
        for number in range(8):
            time.sleep(0.1 * draw.random())
            process.send_signal(signal.SIGSTOP)
            copy = tmp_path / f"copy-{number}"
            copy.mkdir()
            for name in (FILE, f"{FILE}-wal"):
                shutil.copy(tmp_path / "journal" / name, copy)
            promised = read_promises(promises)
            process.send_signal(signal.SIGCONT)
            counts.append(check(copy, promised))
        assert counts == sorted(counts) and counts[-1] > counts[0]
    finally:
        process.kill()
        process.wait()


def test_a_journal_survives_kills_at_any_moment(tmp_path):
    draw, promises = random.Random(2), tmp_path / "promises"
    for number in range(3):
        process = start_writer(tmp_path / "journal", str(number), promises)
        time.sleep(0.2 * draw.random())
        process.kill()
        process.wait()
        check(tmp_path / "journal", read_promises(promises))


def test_an_agent_on_a_disk_that_is_full(tmp_path):
    """Linux gives it a small file system of its own, where users may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=1m none {disk} && exec "
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*namespace, f"{mount} true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    command = f"{sys.executable} -m edgebrush.cli.main ue testbed --port 0 --journal {disk}/journal"
    with started(*namespace, mount + command) as (process, url), httpx2.Client(base_url=url, timeout=30) as client:
        inside = Path(f"/proc/{process.pid}/root{disk}")

        def post(key):
            return client.post(IMAGES, json={"prompt": "bag"}, headers={"idempotency-key": key})

        assert post("before").status_code == 200 and client.get("/readyz").status_code == 200
        with open(inside / "filler", "wb", buffering=0) as filler, pytest.raises(OSError, match="No space left"):
            while True:
                filler.write(bytes(4096))
        number = 0
        while (answer := post(f"full-{number}")).status_code == 200:  # the log still has room for some
            number += 1
        assert answer.status_code == 503 and "full" in answer.json()["error"]["message"]
        assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
        assert post("later").status_code == 503
        (inside / "filler").unlink()
        until(lambda: client.get("/readyz").status_code == 200, 20)
        assert post("after").status_code == post("before").status_code == 200
        shutil.copytree(inside / "journal", tmp_path / "copy")
    events = [(line["event"], line["task"]) for line in read_journal(tmp_path / "copy")]
    images = {f"full-{n}-0" for n in range(number)} | {"before-0", "after-0"}
    assert sorted(task for event, task in events if event == "accepted") == sorted(images)
    assert sorted(task for event, task in events if event == "ended") == sorted(images)
