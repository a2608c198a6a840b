"""The journal: what it accepts is durable, what it refuses is gone, what is old is removed."""

import asyncio
import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from edgebrush.agent import agent as agents
from edgebrush.errors import UserError
from edgebrush.journal import database
from edgebrush.journal.database import FILE
from edgebrush.journal.journal import Journal
from edgebrush.journal.reader import read_image, read_journal, read_tasks
from edgebrush.journal.records import TaskResult
from tests.support.agents import PreferSlots, audit_journal, make_task, running_agent
from tests.support.fakes import PNG
from tests.support.journals import events_of, opened, record

IMAGES = "/v1/images/generations"


def test_the_next_process_finds_what_this_one_wrote(tmp_path):
    async def run():
        with opened(tmp_path) as journal:
            await record(journal, "a")
            await record(journal, "b", image=None)
            await journal.accept(make_task("c", seed=3))
            return journal.result("a"), journal.result("c"), read_journal(tmp_path)

    first, unfinished, lines = asyncio.run(run())
    assert not (tmp_path / f"{FILE}-wal").exists()
    assert first.image == PNG and unfinished is None and lines == read_journal(tmp_path)
    assert [line["number"] for line in lines] == list(range(1, 8))
    assert lines[0]["wanted"]["seed"] == 1 and lines[1]["place"] == "own" and lines[2]["ok"] and not lines[5]["ok"]
    assert lines[2]["ended"]["image"] is None and lines[0]["at_s"] <= lines[1]["at_s"]
    assert [task["state"] for task in read_tasks(tmp_path)] == ["image", "error", "open"]
    with opened(tmp_path) as journal:
        assert journal.result("a").image == PNG and journal.result("b").error == "no"
        assert journal.task("nobody") is None and journal.result("nobody") is None
        assert [task.seed for task in journal.unfinished] == [3] and journal.task("c") == journal.unfinished[0]


def test_a_backup_made_while_the_agent_runs_is_a_journal(tmp_path):
    """The statement in docs/operation.md. A copy of the file alone would lack what is in the log."""
    live, backup = tmp_path / "live", tmp_path / "backup"
    backup.mkdir()

    async def run():
        with opened(live) as journal:
            await record(journal, "a")
            await journal.accept(make_task("b", seed=3))
            with closing(sqlite3.connect(f"file:{live / FILE}?mode=ro", uri=True)) as reading:
                reading.execute(f"VACUUM INTO '{backup / FILE}'")
            await record(journal, "c")

    asyncio.run(run())
    with opened(backup) as journal:
        assert journal.result("a").image == PNG and journal.result("c") is None
        assert [task.seed for task in journal.unfinished] == [3]


def test_acceptances_and_ends_are_synchronized_with_the_disk(tmp_path, monkeypatch):
    """The statements of SQLite. That FULL synchronizes at each commit in WAL mode is SQLite's documented behaviour."""
    monkeypatch.setattr(database, "DURABLE", "FULL")
    monkeypatch.setattr(database, "RELAXED", "NORMAL")
    statements = []

    async def run():
        with opened(tmp_path) as journal:
            journal.writer.connection.set_trace_callback(statements.append)
            await journal.accept(make_task("a"))
            journal.write("a", "decided")
            while journal.busy:
                await asyncio.sleep(0)
            await journal.end(TaskResult("a", PNG))

    asyncio.run(run())
    modes, committed, mode = {}, [], ""
    for statement in statements:
        if statement.startswith("PRAGMA synchronous"):
            mode = statement.split()[-1]
        elif statement.startswith("INSERT INTO events"):
            committed.append(statement.split("'")[3])
        elif statement == "COMMIT":
            modes |= dict.fromkeys(committed, mode)
            committed.clear()
    assert modes == {"accepted": "FULL", "decided": "NORMAL", "ended": "FULL"}


def test_a_task_ends_once_whatever_is_written(tmp_path):
    async def run():
        with opened(tmp_path) as journal:
            await journal.end(TaskResult("unknown", PNG))
            journal.write("unknown", "decided")
            await record(journal, "a")
            await journal.end(TaskResult("a", None, "again"))
            assert not journal.unwritten
            await journal.accept(make_task("a"))
            await journal.accept(make_task("b"))

    asyncio.run(run())
    assert events_of(tmp_path, "a") == ["accepted", "decided", "ended"] and events_of(tmp_path, "unknown") == []
    assert read_image(tmp_path, "a") == PNG and events_of(tmp_path, "b") == ["accepted"]


@pytest.mark.parametrize("keep", [(0, 30.0), (10, -1.0), (10, 1e9), (10, float("nan"))])
def test_what_cannot_be_kept_is_a_user_error(tmp_path, keep):
    with pytest.raises(UserError, match="give at least 1 task and 0 to 36500 days"):
        Journal(tmp_path, *keep)


def test_an_archive_that_cannot_be_written_is_read(tmp_path):
    asyncio.run(run_tasks(tmp_path / "j", 3))
    for path in (tmp_path / "j").iterdir():
        path.chmod(0o444)
    (tmp_path / "j").chmod(0o555)
    assert len(read_journal(tmp_path / "j")) == 9


def test_two_agents_cannot_share_a_journal(tmp_path):
    with opened(tmp_path), pytest.raises(UserError, match="another agent uses it"):
        Journal(tmp_path)
    Journal(tmp_path).close()


def test_a_database_that_cannot_be_used_is_a_user_error(tmp_path):
    asyncio.run(run_tasks(tmp_path / "j", 300))
    path = tmp_path / "j" / FILE
    content = path.read_bytes()
    path.write_bytes(content[:8192] + random.Random(0).randbytes(40_000) + content[48_192:])
    with pytest.raises(UserError, match=r"journal\.sqlite: is damaged \(.*\); move it away"):
        Journal(tmp_path / "j")
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match=r"is damaged \(file is not a database"):
        Journal(tmp_path / "j")
    with pytest.raises(UserError, match=r"journal\.sqlite: cannot be read: file is not a database"):
        read_journal(tmp_path / "j")
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    for use in (Journal, read_journal):
        with pytest.raises(UserError, match=r"journal\.sqlite: has version 2 .* update edgebrush"):
            use(tmp_path / "j")
    assert read_journal(tmp_path / "nowhere") == []


async def run_tasks(folder, count, **keep):
    with opened(folder, **keep) as journal:
        await record(journal, *(f"t{n}" for n in range(count)))


# -- while it is written


def test_it_is_read_while_it_is_written(tmp_path):
    async def run():
        with opened(tmp_path) as journal:
            seen = []
            for n in range(30):
                await record(journal, f"t{n}")
                seen += read_journal(tmp_path, after=seen[-1]["number"] if seen else 0)
                assert len(seen) == 3 * (n + 1)
            return seen

    assert asyncio.run(run()) == read_journal(tmp_path)


def test_tasks_at_once_share_a_transaction(tmp_path):
    async def run():
        with opened(tmp_path) as journal:
            changes = []
            journal.writer.connection.set_trace_callback(
                lambda text: changes.append(text) if text == "COMMIT" else None
            )
            await asyncio.gather(*(record(journal, f"t{n}") for n in range(200)))
            return len(changes)

    assert asyncio.run(run()) < 60
    assert audit_journal(tmp_path, 200) == 200


def test_a_copy_from_any_moment_has_every_accepted_task_once(tmp_path):
    """Copies of the files at random moments, the log cut anywhere behind what was promised: what a power cut leaves."""
    draw, source = random.Random(5), tmp_path / "journal"
    copies = []  # of (folder, accepted, ended): what had been promised then

    def copy(accepted, ended, promised_bytes):
        folder = tmp_path / f"copy-{len(copies)}"
        folder.mkdir()
        shutil.copy(source / FILE, folder)
        log = (source / f"{FILE}-wal").read_bytes()
        (folder / f"{FILE}-wal").write_bytes(log[: draw.randint(promised_bytes, len(log))])
        copies.append((folder, set(accepted), set(ended)))

    async def run():
        with opened(source) as journal:
            accepted, ended = [], []

            async def one(name):
                await asyncio.sleep(draw.random() * 0.2)
                await journal.accept(make_task(name))
                accepted.append(name)
                journal.write(name, "decided")
                await asyncio.sleep(draw.random() * 0.01)
                await journal.end(TaskResult(name, PNG))
                ended.append(name)

            work = [asyncio.create_task(one(f"t{n}")) for n in range(60)]
            while not all(each.done() for each in work):
                promised_bytes = (source / f"{FILE}-wal").stat().st_size if accepted else 0
                promises = list(accepted), list(ended)
                await asyncio.sleep(draw.random() * 0.002)
                copy(*promises, promised_bytes)

    asyncio.run(run())
    assert len(copies) > 5
    for folder, accepted, ended in copies:
        with opened(folder) as journal:
            lines = read_journal(folder)
            found = [line["task"] for line in lines if line["event"] == "accepted"]
            done = [line["task"] for line in lines if line["event"] == "ended"]
            assert len(set(found)) == len(found) and len(set(done)) == len(done)
            assert accepted <= set(found) and ended <= set(done)
            assert {task.id for task in journal.unfinished} == set(found) - set(done)
            assert all(journal.result(name).image == PNG for name in done)


# -- with an agent


def test_a_client_that_leaves_while_its_task_is_recorded_ends_it(tmp_path):
    async def run():
        async with running_agent(tmp_path, PreferSlots(0), {}) as agent:
            waiting = asyncio.create_task(agent.generate(make_task("t")))
            while not agent.journal.writer.unattempted:
                await asyncio.sleep(0)
            agent.cancel("t")
            return await waiting

    assert asyncio.run(run()).error == agents.CLIENT_LEFT
    assert audit_journal(tmp_path, 1) == 0
