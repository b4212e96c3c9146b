"""A cache of results in memory, so that the same input is not computed twice.

The digital links use it: the same picture is compressed once, and the result serves many operating points. The module
also counts the seconds that the remembered results took when they were computed. The columns of cost need them, because
a receiver that decodes a single picture has to pay them.
"""

from __future__ import annotations

import hashlib
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

_saved = 0.0
_known: weakref.WeakSet[Memo] = weakref.WeakSet()


class Memo:
    """Remembers the last `kept` results of a function, each under a key."""

    def __init__(self, kept: int):
        self.kept = kept
        self._results: OrderedDict[Any, tuple[Any, float]] = OrderedDict()
        _known.add(self)

    def get(self, key: Any, compute: Callable[[], Any]) -> Any:
        """The result under `key`. If it is not remembered, `compute()` computes it.

        When a remembered result is returned, the seconds that it once took are added to what `take_saved` returns.
        """
        global _saved
        if key in self._results:
            self._results.move_to_end(key)
            result, seconds = self._results[key]
            _saved += seconds
            return result
        start = time.perf_counter()
        result = compute()
        self._results[key] = (result, time.perf_counter() - start)
        if len(self._results) > self.kept:
            self._results.popitem(last=False)
        return result


def forget() -> None:
    """Empty every memo of this process."""
    for memo in _known:
        memo._results.clear()


def digest(array: np.ndarray) -> bytes:
    """A key for an array of any shape and type: the sha256 of its shape, type and values, 32 bytes."""
    sha = hashlib.sha256(repr((array.shape, array.dtype.str)).encode())
    sha.update(np.ascontiguousarray(array).tobytes())
    return sha.digest()


def take_saved() -> float:
    """Seconds that were saved since the last call.

    These are the seconds that the remembered results took when they were first computed. A column of cost adds them,
    because a receiver that decodes only once has to pay them.
    """
    global _saved
    saved, _saved = _saved, 0.0
    return saved
