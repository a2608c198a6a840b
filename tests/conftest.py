"""Settings of every test session: quick compilation, Ctrl-C that works, and a guard for the fast layer."""

import os
import signal
import sys

import pytest

# Compilation is most of what the learners' tests cost: XLA compiles quickly instead of well.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# A shell's background jobs ignore SIGINT, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What only a test with the marker `process` may do: `make test-fast` runs all others.
STARTS = ("subprocess.Popen", "os.fork", "os.posix_spawn", "socket.bind")
unmarked = ""  # the running test, if it has no such marker


def refuse_processes(event, arguments):
    if unmarked and event in STARTS:
        raise RuntimeError(f"{unmarked} starts a process or a server ({event}): mark it with @pytest.mark.process")


sys.addaudithook(refuse_processes)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    global unmarked
    unmarked = "" if item.get_closest_marker("process") else item.nodeid
    try:
        return (yield)
    finally:
        unmarked = ""
