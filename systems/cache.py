"""Results worth keeping, under the bytes that decide them; the time they once took is not forgotten with them."""

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
    """The last `kept` results of a function, by key."""

    def __init__(self, kept: int):
        self.kept = kept
        self._results: OrderedDict[Any, tuple[Any, float]] = OrderedDict()
        _known.add(self)

    def get(self, key: Any, compute: Callable[[], Any]) -> Any:
        """The result under `key`, computed at most once while it is kept."""
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
    """Empty every memo of the process."""
    for memo in _known:
        memo._results.clear()


def digest(array: np.ndarray) -> bytes:
    """A key for an array's content and shape."""
    sha = hashlib.sha256(repr((array.shape, array.dtype.str)).encode())
    sha.update(np.ascontiguousarray(array).tobytes())
    return sha.digest()


def take_saved() -> float:
    """Seconds that remembered results took when they were computed, since the last call: what a cost column adds, since
    a
    receiver that decodes once pays them."""
    global _saved
    saved, _saved = _saved, 0.0
    return saved
