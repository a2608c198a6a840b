"""The one place that says how the simulator's loops are compiled."""

import hashlib
import os
from pathlib import Path

import numba


def _cache_folder() -> str:
    """A numba cache folder of its own for each version of the sources.

    Numba looks only at the file that holds a cached function, so a change in a callee of another file would go
    unnoticed; naming the folder after all sources makes a stale cache impossible.
    """
    package = Path(__file__).parent.parent
    digest = hashlib.sha256(numba.__version__.encode())
    for pattern in ("sim/*.py", "decision/*.py", "policies/rules.py", "evaluation/episodes.py"):
        for source in sorted(package.glob(pattern)):
            digest.update(source.read_bytes())
    root = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return str(Path(root) / "edgebrush" / f"numba-{digest.hexdigest()[:16]}")


_CACHE_FOLDER = _cache_folder()


def compiled(function=None, *, parallel: bool = False):
    """``numba.njit`` with this project's cache; exact floating point, so that the oracle agrees to 1e-9."""
    if function is None:
        return lambda function: compiled(function, parallel=parallel)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = _CACHE_FOLDER
    try:
        return numba.njit(cache=True, parallel=parallel, nogil=True, error_model="numpy")(function)
    finally:
        numba.config.CACHE_DIR = before
