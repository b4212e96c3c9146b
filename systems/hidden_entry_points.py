"""Keeps libraries from loading code that installed packages name for them in entry points, such as `triton.backends`.

`bench` calls it when it is imported: else such code would run in the harness, and in the process from which systems'
processes are forked. `bench.measure.apart.nursery` calls it in each of these.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, EntryPoint, EntryPoints
from typing import Any

#: Groups of which a library loads only what the user names: a notebook names matplotlib's `inline` in MPLBACKEND, and
#: without its entry point matplotlib cannot be imported.
_ONLY_IF_NAMED = ("matplotlib.backend",)
_PYTHON: Any = Distribution
_now = _PYTHON.entry_points.fget
_all = getattr(_now, "everything", _now)  # `bench` may be imported anew


def hide_entry_points(own: str = "") -> None:
    """From now on Python finds only the entry points that the bench reads itself, whatever library asks. A library
    still finds those in groups of its name that lead to its own code, such as `triton.backends.nvidia`.

    own: the package of a system, which may find parts of its own code.
    """

    def entry_points(package: Distribution) -> EntryPoints:
        return EntryPoints(filter(is_seen, _all(package)))

    def is_seen(point: EntryPoint) -> bool:
        library, leads_to = re.split("[._]", point.group)[0], re.split("[.:]", point.value.strip())[0]
        wanted = point.group.startswith("semantic_bench.") or point.group in _ONLY_IF_NAMED
        return wanted or leads_to in (library, "torch", own or None)  # torch has a group `torchrun.logs_specs`

    told: Any = entry_points
    told.everything = _all
    _PYTHON.entry_points = property(entry_points)
