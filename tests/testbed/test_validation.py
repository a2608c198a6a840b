"""Validation: known errors are found, and table and picture are written."""

import csv
import json

import numpy as np
import pytest

from edgebrush.scenario.load import load_scenario
from edgebrush.sim.state import OUTCOME
from edgebrush.testbed.validation import common_images, simulator_errors, write_validation


def tasks(count=40):
    rows = np.zeros(count, OUTCOME)
    rows["delay_s"] = np.linspace(0.1, 2.0, count)
    rows["place"] = np.arange(count) % 3
    rows["energy_ue_j"], rows["cost"], rows["steps"] = 0.5, 1.0, 6
    return rows


def test_a_known_error_is_found():
    simulated, measured = tasks(), tasks()
    measured["delay_s"] = np.where(measured["place"] == 0, simulated["delay_s"] + 0.01, simulated["delay_s"] * 1.1)
    found = simulator_errors(measured, simulated)
    delay = found["delay_s"]
    assert delay["task"]["median_own_device"] == pytest.approx(0.01)
    assert 0.01 < delay["mean"]["relative"] < 0.1
    assert delay["mean"]["measured"] == pytest.approx(measured["delay_s"].mean())
    assert found["cost"]["mean"]["relative"] == 0.0 and found["energy_bs_j"]["mean"]["relative"] == 0.0
    assert delay["task"]["correlation"] > 0.99


def test_only_tasks_with_an_image_in_both_are_compared():
    simulated, measured = tasks(), tasks()
    measured["lost"][0], simulated["dropped"][1] = 1, 1
    ours, theirs = common_images(measured, simulated)
    assert len(ours) == len(theirs) == 38 and ours["delay_s"][0] == measured["delay_s"][2]


def test_errors_table_and_picture_are_written(tmp_path):
    found = write_validation(load_scenario("testbed"), {"a": (tasks(), tasks()), "b": (tasks(7), tasks(7))}, tmp_path)
    assert json.loads((tmp_path / "against-sim.json").read_text()) == found
    assert found["b"]["tasks"] == 7 and found["a"]["delay_s"]["mean"]["relative"] == 0.0
    with open(tmp_path / "against-sim.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["policy"] for row in rows] == ["a"] * 40 + ["b"] * 7
    assert rows[39]["delay_s_simulated"] == "2"
    assert (tmp_path / "against-sim.png").read_bytes().startswith(b"\x89PNG")
