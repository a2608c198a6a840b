"""Shell completion: it can be installed, and completes names without importing what is heavy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgebrush
from edgebrush.cli.main import run

COMPLETE = "import sys; from edgebrush.cli.main import run; run([])"


def completions(*words):
    """What a Bash user is offered for the last word."""
    environment = {
        "_EDGEBRUSH_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["edgebrush", *words]),
        "COMP_CWORD": str(len(words)),
        "PYTHONPATH": str(Path(edgebrush.__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", COMPLETE],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"jax", "numba", "yaml", "scipy", "matplotlib"}
    return done.stdout.split()


def test_completion_can_be_installed(capsys):
    run(["--help"])
    assert "--install-completion" in capsys.readouterr().out


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["comp"], ["compare"]),
        (["compare", "camp"], ["campus", "campus-gentd26"]),
        (["scenarios", "show", "pa"], ["pair"]),
        (["evaluate", "priced-greedy", "selfish"], ["selfish-greedy"]),
        (["evaluate", "--scenario", "cit"], ["city"]),
        (["train", "--algorithm", "mapp"], ["mappo", "mappo-plain", "mappo-published"]),
        (["ue", "testbed", "--policy", "lyap"], ["lyapunov"]),
    ],
    ids=" ".join,
)
def test_names_are_completed(words, offered):
    assert completions(*words) == offered
