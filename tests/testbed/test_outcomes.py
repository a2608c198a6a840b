"""From journals to outcomes and the audit: lost and repeated tasks are counted, and costs are the simulator's."""

import numpy as np
import pytest

from edgebrush.errors import UserError
from edgebrush.journal.reader import read_journal
from edgebrush.scenario.load import load_scenario
from edgebrush.testbed.episode import draw_episode, simulate
from edgebrush.testbed.outcomes import Audit, audit, decisions, outcomes, task_id, task_records
from tests.support.journals import append_lines

PLACES = ("own", "large", "small")


@pytest.fixture(scope="module")
def episode():
    return draw_episode(load_scenario("testbed"), 4 * 10**9, 6.0)


def ended(task, at_s=1.0, ok=True, **fields):
    """A journal line."""
    result = {
        "error": "" if ok else "no",
        "place": "own",
        "steps": 6,
        "service_class": 1,
        "energy_ue_j": 0.0,
        "energy_bs_j": 0.0,
        "missed": False,
        "attempts": 1,
    }
    return {"task": task, "event": "ended", "at_s": at_s, "ok": ok, "ended": result | fields}


def test_the_audit_counts_lost_and_repeated_tasks(tmp_path):
    lines = [ended("a"), ended("b"), ended("b"), ended("c", ok=False), ended("d")]
    lines += [{"task": "e", "event": "accepted"}, {"task": "a", "event": "failed over"}]
    append_lines(tmp_path / "ue-1", lines, ["a", "b"])  # d's image is missing, e never ended, f is in no journal
    found = audit(6, [tmp_path / "ue-1", tmp_path / "not-there"])
    assert found == Audit(requested=6, images=3, errors=1, lost=3, twice=1, failed_over=1)
    assert next(iter(found.entries().items())) == ("asked", 6) and str(found).startswith("6 requested, 3 images")
    assert len(read_journal(tmp_path / "ue-1")) == 7


def test_outcomes_cost_the_same_as_in_the_simulator(episode):
    """Journals written with the simulator's own delays and energies give the simulator's own rows."""
    decided = [(n % 3, (2, 6, 10)[n % 3], n % 2) for n in range(len(episode.tasks))]
    simulated = simulate(episode, decided)
    start_s, lines = 100.0, []
    for task, row in zip(episode.tasks, simulated, strict=True):
        lines.append({"task": task_id(task), "event": "decided", "battery": 0.5})
        lines.append(
            ended(
                task_id(task),
                start_s + row["end_s"],
                place=PLACES[row["place"]],
                steps=int(row["steps"]),
                service_class=int(row["service_class"]),
                energy_ue_j=row["energy_ue_j"],
                energy_bs_j=row["energy_bs_j"],
            )
        )
    rows = outcomes(episode, task_records(lines), start_s)
    for name in rows.dtype.names:
        np.testing.assert_allclose(rows[name], simulated[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_errors_cost_what_the_scenario_says(episode):
    tasks = episode.tasks
    lines = [ended(task_id(task), 100.0 + task.at_s, ok=False, place="") for task in tasks[1:]]
    lines.append(ended(task_id(tasks[0]), 100.5 + tasks[0].at_s, ok=False, place="", missed=True))
    late, *others = outcomes(episode, task_records(lines), 100.0)
    cost = episode.scenario.cost
    assert late["dropped"] and not late["lost"] and late["penalty_cost"] == cost.missed
    assert late["delay_s"] == pytest.approx(0.5)
    assert all(row["lost"] and row["penalty_cost"] == cost.lost and row["quality"] == 0 for row in others)


def test_the_last_decision_counts_and_a_task_without_one_is_an_error(episode):
    first, later = ({"event": "decided", "place": place, "steps": 6, "service_class": 0} for place in ("own", "small"))
    lines = [line | {"task": task_id(task)} for task in episode.tasks for line in (first, later)]
    assert decisions(episode, task_records(lines)) == [(2, 6, 0)] * len(episode.tasks)
    undecided = [line | {"event": "ended"} if line["task"] == lines[0]["task"] else line for line in lines]
    with pytest.raises(UserError, match=f"against-sim: {episode.tasks[0].key} ended before a decision"):
        decisions(episode, task_records(undecided))
