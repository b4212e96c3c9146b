"""Compiles functions with Numba, the same way in every package, and caches the compiled code on disk if it can.

Called by the modules with loops that are slow in Python, for example the LDPC decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from systems.errors import missing_package


def compiled(function: Callable) -> Any:
    """`function`, compiled by Numba on its first call. It runs without the interpreter's lock.

    Numba refuses to cache where it can write neither beside the source nor in the user's cache folder (an installed
    package without a home folder, as in a container). Then each process compiles again: this takes seconds more and
    gives the same numbers. Without Numba, which training does not need, a call raises MissingDependency.
    """
    try:
        from numba import njit
    except ImportError:
        return _missing(function.__name__)
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


def _missing(name: str) -> Callable:
    def refuse(*arguments):
        raise missing_package(name.strip("_"), "numba")

    return refuse
