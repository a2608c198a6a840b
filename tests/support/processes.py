"""Processes for tests: `edgebrush serve`, `edgebrush ue`, and fake servers that tests kill and freeze."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import edgebrush

SOURCE = str(Path(edgebrush.__file__).parents[1])
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@contextmanager
def started(*arguments, **variables):
    """A process, with further environment variables, and the address in the first line that it prints."""
    environment = ENVIRONMENT | variables
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        line = process.stdout.readline()
        assert "://" in line, line + process.stdout.read()
        url = next(word.rstrip(",") for word in line.split() if word.startswith(("http://", "https://")))
        yield process, url
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def edgebrush_process(*arguments, **variables):
    return started(sys.executable, "-m", "edgebrush.cli.main", *arguments, **variables)


def fake_process(delay_s):
    return started(sys.executable, str(Path(__file__).with_name("fakes.py")), str(delay_s))


def free_port():
    """A port that nothing listens on now, for programs that cannot choose one themselves."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
