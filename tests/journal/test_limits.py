"""The journal's limits: what happens on a full disk, and what is kept."""

import asyncio
from datetime import datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from edgebrush.agent.app import create_app
from edgebrush.journal import database, records
from edgebrush.journal.database import FILE
from edgebrush.journal.journal import JournalError
from edgebrush.journal.reader import read_image, read_journal, read_tasks
from edgebrush.journal.records import TaskResult
from tests.support.agents import PreferSlots, audit_journal, generate_all, make_agent, make_task, running_agent
from tests.support.journals import events_of, fill_disk, free_disk, opened, record
from tests.support.serving import until

IMAGES = "/v1/images/generations"


@pytest.fixture
def quick_retries(monkeypatch):
    monkeypatch.setattr("edgebrush.journal.writer.RETRY_S", 0.01)


# -- a full disk


def test_on_a_full_disk_a_task_is_refused_for_good(tmp_path, quick_retries):
    async def run():
        with opened(tmp_path) as journal:
            await record(journal, "a")
            fill_disk(journal)
            with pytest.raises(JournalError, match="cannot be used now: database or disk is full"):
                await journal.accept(make_task("refused", prompt="x" * 10_000))
            assert "full" in journal.problem
            with pytest.raises(JournalError):
                await journal.accept(make_task("small"))
            free_disk(journal)
            while journal.problem:
                await asyncio.sleep(0.001)
            await record(journal, "b")

    asyncio.run(run())
    with opened(tmp_path) as journal:
        assert journal.unfinished == [] and journal.task("refused") is None
    assert audit_journal(tmp_path, 2) == 2


def test_an_end_that_cannot_be_written_is_kept_and_written_later(tmp_path, quick_retries):
    picture = bytes(100_000)

    async def run():
        with opened(tmp_path) as journal:
            await journal.accept(make_task("a"))
            fill_disk(journal)
            journal.write("a", "sent", reason="x" * 10_000)
            await journal.end(TaskResult("a", picture))
            assert journal.result("a").image == picture and "full" in journal.problem
            await asyncio.sleep(0.05)  # some attempts
            assert events_of(tmp_path, "a") == ["accepted"]
            free_disk(journal)
            while journal.problem:
                await asyncio.sleep(0.001)
            assert not journal.unwritten and journal.result("a").image == picture

    asyncio.run(run())
    assert events_of(tmp_path, "a") == ["accepted", "sent", "ended"] and read_image(tmp_path, "a") == picture


def test_an_agent_on_a_full_disk_is_not_ready_until_it_can_write(tmp_path, quick_retries):
    agent = make_agent(tmp_path, PreferSlots(0), {})
    body, key = {"prompt": "circle", "negative_prompt": "x" * 900, "n": 8}, {"idempotency-key": "mine"}
    with TestClient(create_app(agent)) as client:
        assert client.post(IMAGES, json={"prompt": "circle"}).status_code == client.get("/readyz").status_code == 200
        fill_disk(agent.journal)
        for answer in (client.post(IMAGES, json=body, headers=key), client.get("/readyz")):
            assert answer.status_code == 503 and answer.json()["error"]["code"] == "no_journal"
            assert "database or disk is full" in answer.json()["error"]["message"]
        until(lambda: not agent.running, 10)  # the first task's last steps come after its answer
        assert client.get("/healthz").status_code == 200
        free_disk(agent.journal)
        until(lambda: client.get("/readyz").status_code == 200, 10)
        assert client.post(IMAGES, json=body, headers=key).status_code == 200
    assert audit_journal(tmp_path, 9) == 9


def test_results_that_could_not_be_written_before_the_end_are_made_again(tmp_path, quick_retries, caplog):
    async def stopped():
        async with running_agent(tmp_path, PreferSlots(0), {}) as agent:
            await agent.journal.accept(make_task("a"))
            fill_disk(agent.journal)
            await agent.journal.end(TaskResult("a", bytes(100_000)))

    asyncio.run(stopped())
    assert "its last 1 entries are lost" in caplog.text
    [result] = generate_all(tmp_path, PreferSlots(0), {}, [make_task("a")])
    assert result.image and audit_journal(tmp_path, 1) == 1


# -- what is kept


def test_old_tasks_are_removed_while_it_runs_and_the_file_stays_small(tmp_path, monkeypatch):
    for module in ("database", "writer"):  # after 10 ends, whatever the time
        monkeypatch.setattr(f"edgebrush.journal.{module}.STEP_TASKS", 10)
    monkeypatch.setattr(database, "FREE_PAGES", 4)
    sizes = []

    async def run():
        with opened(tmp_path, keep_tasks=5) as journal:
            await journal.accept(make_task("open"))
            for part in range(4):
                await record(journal, *(f"t{part}-{n}" for n in range(50)), image=bytes(20_000))
                while len(read_tasks(tmp_path)) > 6:
                    await asyncio.sleep(0.001)
                sizes.append(journal.reading.execute("PRAGMA page_count").fetchone()[0])

    asyncio.run(run())
    assert [task["task"] for task in read_tasks(tmp_path)] == ["open", *(f"t3-{n}" for n in range(45, 50))]
    assert events_of(tmp_path, "t3-44") == [] and read_image(tmp_path, "t3-44") is None
    assert max(sizes) < 150  # pages of 4 KiB; all tasks would need 1000


def test_the_log_stays_small_under_load_with_readers(tmp_path):
    async def run():
        with opened(tmp_path) as journal:
            largest = 0
            for n in range(60):
                await record(journal, f"t{n}", image=bytes(500_000))
                read_journal(tmp_path)
                largest = max(largest, (tmp_path / f"{FILE}-wal").stat().st_size)
            return largest

    assert asyncio.run(run()) < 2 * database.WAL_BYTES


def test_tasks_are_removed_by_age_whatever_the_wall_clock_does(tmp_path, monkeypatch):
    monkeypatch.setattr("edgebrush.journal.writer.REMOVE_S", 0.01)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=3650)

    async def run():
        with opened(tmp_path, keep_days=2.0) as journal:
            await record(journal, "old")
            with monkeypatch.context() as patch:
                patch.setattr(records, "datetime", Ahead)
                await record(journal, "ahead")
            assert len(read_tasks(tmp_path)) == 2
            journal.clock.offset_s += 3 * 86_400
            await record(journal, "new")
            while len(read_tasks(tmp_path)) > 1:
                await asyncio.sleep(0.001)

    asyncio.run(run())
    [left] = read_tasks(tmp_path)
    assert left["task"] == "new"
