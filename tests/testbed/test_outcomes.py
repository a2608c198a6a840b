"""From journals to outcomes and the audit: what is lost or ended twice must show, and costs are the simulator's."""

import json

import numpy as np
import pytest

from edgebrush.scenario.load import load_scenario
from edgebrush.testbed.episode import draw_episode, simulate
from edgebrush.testbed.outcomes import Audit, audit, outcomes, read_lines, stories, task_of

EPISODE = draw_episode(load_scenario("testbed"), 4 * 10**9, 6.0)
OUR_NAMES = ("own", "large", "small")


def ended(task, at_s=1.0, ok=True, **fields):
    said = {
        "error": "" if ok else "no",
        "place": "own",
        "steps": 6,
        "service_class": 1,
        "energy_ue_j": 0.0,
        "energy_bs_j": 0.0,
        "missed": False,
        "attempts": 1,
    }
    return {"task": task, "event": "ended", "at_s": at_s, "ok": ok, "ended": said | fields}


def write(folder, lines, images):
    (folder / "images").mkdir(parents=True)
    (folder / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"task": "half wri')
    for task in images:
        (folder / "images" / f"{task}.png").write_bytes(b"png")


def test_the_audit_counts_what_is_lost_and_what_ended_twice(tmp_path):
    lines = [ended("a"), ended("b"), ended("b"), ended("c", ok=False), ended("d")]
    lines += [{"task": "e", "event": "accepted"}, {"task": "a", "event": "failed over"}]
    write(tmp_path / "ue-1", lines, ["a", "b"])  # d's image is missing, e never ended, f was never heard of
    found = audit(6, [tmp_path / "ue-1", tmp_path / "not-there"])
    assert found == Audit(asked=6, images=3, errors=1, lost=3, twice=1, failed_over=1)
    assert len(read_lines(tmp_path / "ue-1")) == 7


def test_outcomes_cost_what_the_simulator_says_of_the_same_delays():
    """Journals written with the simulator's own delays and energies give the simulator's own rows."""
    decided = [(n % 3, (2, 6, 10)[n % 3], n % 2) for n in range(len(EPISODE.arrivals))]
    simulated = simulate(EPISODE, decided)
    start_s, lines = 100.0, []
    for arrival, row in zip(EPISODE.arrivals, simulated, strict=True):
        lines.append({"task": task_of(arrival), "event": "decided", "battery": 0.5})
        lines.append(
            ended(
                task_of(arrival),
                start_s + row["end_s"],
                place=OUR_NAMES[row["place"]],
                steps=int(row["steps"]),
                service_class=int(row["service_class"]),
                energy_ue_j=row["energy_ue_j"],
                energy_bs_j=row["energy_bs_j"],
            )
        )
    rows = outcomes(EPISODE, stories(lines), start_s)
    for name in rows.dtype.names:
        np.testing.assert_allclose(rows[name], simulated[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_errors_cost_what_the_scenario_says():
    arrivals = EPISODE.arrivals
    lines = [ended(task_of(arrival), 100.0 + arrival.at_s, ok=False, place="") for arrival in arrivals[1:]]
    lines.append(ended(task_of(arrivals[0]), 100.5 + arrivals[0].at_s, ok=False, place="", missed=True))
    late, *others = outcomes(EPISODE, stories(lines), 100.0)
    cost = EPISODE.scenario.cost
    assert late["dropped"] and not late["lost"] and late["penalty_cost"] == cost.missed
    assert late["delay_s"] == pytest.approx(0.5)
    assert all(row["lost"] and row["penalty_cost"] == cost.lost and row["quality"] == 0 for row in others)
