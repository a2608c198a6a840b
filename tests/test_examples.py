"""The examples run as they are given, each in a folder of its own."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = pytest.mark.process


def test_the_script_compares_and_decides(tmp_path):
    command = [sys.executable, str(EXAMPLES / "compare.py"), "--quick", "--out", str(tmp_path / "run")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "MAPPO's first four choices" in printed and "priced-greedy" in printed
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000


def test_the_notebook_runs_and_shows_pictures_and_costs(tmp_path):
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code), "commit the notebook without outputs"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in code for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "20 UEs, 3 BSs" in printed and "mappo" in printed and "selfish-greedy" in printed
    assert (tmp_path / "runs" / "quickstart" / "report.html").is_file()


def test_another_librarys_policy_stands_in_compares_table(tmp_path):
    pytest.importorskip("stable_baselines3", reason="needs the extra sb3")
    trained, run = tmp_path / "trained", tmp_path / "run"
    train = [str(EXAMPLES / "train_with_sb3.py"), "--scenario", "pair", "--decisions", "8192", "--out", str(trained)]
    subprocess.run([sys.executable, *train], check=True, cwd=tmp_path)
    policy = f"examples.sb3_policy:Sb3Policy:{trained}"
    compare = ["compare", "pair", "--seeds", "0", "--episodes", "2", "--policy", policy, "--out", str(run)]
    subprocess.run([sys.executable, "-m", "edgebrush.cli.main", *compare], check=True, cwd=EXAMPLES.parent)
    policies = json.loads((run / "results.json").read_text())["policies"]
    assert np.isfinite(policies["sb3-ppo"]["cost"]["mean"]) and "priced-greedy" in policies
