"""The journal: what it accepts is durable, what it refuses is gone, what is old is removed."""

import asyncio

from edgebrush.agent.journal import Journal, TaskResult
from edgebrush.agent.journal.database import FILE
from edgebrush.agent.journal.reader import read_journal
from tests.support.agents import make_task
from tests.support.fakes import PNG

IMAGES = "/v1/images/generations"


async def record(journal, *names, image=PNG):
    """Accept and end tasks."""
    for name in names:
        await journal.accept(make_task(name))
        journal.write(name, "decided", place="own")
        await journal.end(TaskResult(name, image, "" if image else "no"))


def events_of(folder, task):
    return [line["event"] for line in read_journal(folder) if line["task"] == task]


def test_the_next_process_finds_what_this_one_wrote(tmp_path):
    async def run():
        journal = Journal(tmp_path)
        await record(journal, "a")
        await record(journal, "b", image=None)
        await journal.accept(make_task("c", seed=3))
        while_open = journal.result("a"), journal.result("c"), read_journal(tmp_path)
        journal.close()
        assert not (tmp_path / f"{FILE}-wal").exists()
        return while_open

    first, unfinished, lines = asyncio.run(run())
    assert first.image == PNG and unfinished is None and lines == read_journal(tmp_path)
    assert [line["number"] for line in lines] == list(range(1, 8))
    assert lines[0]["wanted"]["seed"] == 1 and lines[1]["place"] == "own" and lines[2]["ok"] and not lines[5]["ok"]
    assert lines[2]["ended"]["image"] is None and lines[0]["at_s"] <= lines[1]["at_s"]
    journal = Journal(tmp_path)
    assert journal.result("a").image == PNG and journal.result("b").error == "no" and journal.task("nobody") is None
    assert [task.seed for task in journal.unfinished] == [3] and journal.task("c") == journal.unfinished[0]
    journal.close()
