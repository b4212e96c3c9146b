"""Numba's compiler as every room uses it: compiled code is cached on disk where some folder can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def compiled(function: Callable) -> Any:
    """`function` compiled by Numba on its first call, without the interpreter's lock.

    Numba refuses a cache where it can write neither beside the source nor in the user's cache folder (an installed
    package and no home, as in a container). Then each process compiles anew: slower by seconds, and the same numbers.
    """
    from numba import njit

    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)
