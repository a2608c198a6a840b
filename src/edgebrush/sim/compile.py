"""How the simulator's loops are compiled with numba and run on several threads."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np

_numba: Any = numba  # numba sets its options at run time, so type checkers do not see them
CORES: int = _numba.config.NUMBA_NUM_THREADS  # NUMBA_NUM_THREADS, else the cores available to this process


def _cache_folder() -> str:
    """A numba cache folder of its own for each version of the sources.

    Numba checks only the file that defines a cached function, so it would miss a change in a callee of another file.
    A folder named after a hash of all sources cannot be stale.
    """
    package = Path(__file__).parent.parent
    digest = hashlib.sha256(numba.__version__.encode())
    for pattern in ("sim/*.py", "decision/*.py", "scenario/*.py", "policies/*.py", "evaluation/episodes.py"):
        for source in sorted(package.glob(pattern)):
            digest.update(source.read_bytes())
    root = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return str(Path(root) / "edgebrush" / f"numba-{digest.hexdigest()[:16]}")


_CACHE_FOLDER = _cache_folder()


def compiled(function=None, *, entry: bool = False):
    """``numba.njit`` with this project's cache; exact floating point, so that the oracle agrees to 1e-9.

    Only an ``entry`` may be called from Python. All others are compiled without the Python wrapper, which would take a
    third of the compile time; calling one from Python crashes the process.
    """
    if function is None:
        return lambda function: compiled(function, entry=entry)
    before = _numba.config.CACHE_DIR
    _numba.config.CACHE_DIR = _CACHE_FOLDER
    try:
        return _numba.njit(
            cache=True, nogil=True, error_model="numpy", no_cpython_wrapper=not entry, no_cfunc_wrapper=True
        )(function)
    finally:
        _numba.config.CACHE_DIR = before


def spread(kernel: Callable, episodes: int, threads: int, *arguments) -> None:
    """Run a compiled ``kernel(first, last, *arguments)`` over all episodes, each thread on its own range.

    Uses Python threads (the kernels release the GIL) instead of numba's: ``parallel=True`` would compile the whole
    simulator twice more, and its barriers spin while another process uses the core.
    """
    if threads == 1:
        kernel(0, episodes, *arguments)
        return
    bounds = np.linspace(0, episodes, threads + 1).astype(int)
    submit = _pool(os.getpid(), threads).submit
    waiting = [submit(kernel, first, last, *arguments) for first, last in pairwise(bounds)]
    for part in waiting:
        part.result()


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The thread pool of this process; a forked child must not use its parent's."""
    return ThreadPoolExecutor(threads)
