"""Keeps libraries from loading code that installed packages name for them in entry points, such as `triton.backends`.

`bench` calls it when it is imported: else such code would run in the harness, and in the process from which systems'
processes are forked. `bench.measure.apart.nursery` calls it in each of these.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, EntryPoints
from typing import Any

#: Libraries that find parts of their own code by entry points.
_THEIR_OWN = ("torch", "triton")
_PYTHON: Any = Distribution
_now = _PYTHON.entry_points.fget
_all = getattr(_now, "everything", _now)  # `bench` may be imported anew


def hide_entry_points(own: str = "") -> None:
    """From now on Python finds only the entry points that the bench reads itself, whatever library asks.

    own: the package of a system, which may find parts of its own code.
    """

    def entry_points(package: Distribution) -> EntryPoints:
        return EntryPoints(
            point
            for point in _all(package)
            if point.group.startswith("semantic_bench.")
            or re.split("[.:]", point.value.strip())[0] in (*_THEIR_OWN, own or None)
        )

    told: Any = entry_points
    told.everything = _all
    _PYTHON.entry_points = property(entry_points)
