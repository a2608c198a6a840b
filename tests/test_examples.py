"""The example script runs as it is given, from a folder of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

EXAMPLE = Path(__file__).parent.parent / "examples" / "compare.py"


def test_the_example_compares_and_decides(tmp_path):
    command = [sys.executable, str(EXAMPLE), "--quick", "--out", str(tmp_path / "run")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert "MAPPO's first four choices" in said and "priced-greedy" in said
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000
