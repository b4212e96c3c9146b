"""Counts the time of a run: wall and CPU seconds of each stage. Every second is counted in one stage only.

Called all over the systems and the harness; `bench.sweep` writes the seconds into the results. When one stage opens
inside another, its time is subtracted from the outer one. There is one clock per process, and a worker is a process.
CPU seconds include all threads of the process. Opening a stage costs a few microseconds, so the clock always runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

Seconds = tuple[float, float]  # wall, CPU

_spent: dict[str, Seconds] = {}
_open: list[list[float]] = []  # for each open stage: wall and CPU seconds of the stages inside it


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count the time of the `with` block under `name`."""
    wall, cpu = time.perf_counter(), time.process_time()
    _open.append([0.0, 0.0])
    try:
        yield
    finally:
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        inner = _open.pop()
        add(name, wall - inner[0], cpu - inner[1])
        if _open:
            _open[-1][0] += wall
            _open[-1][1] += cpu


def add(name: str, wall: float, cpu: float) -> None:
    """Count seconds that were measured elsewhere, in another process for example."""
    before = _spent.get(name, (0.0, 0.0))
    _spent[name] = (before[0] + wall, before[1] + cpu)


def take() -> dict[str, Seconds]:
    """Wall and CPU seconds by stage since the last call."""
    taken = dict(_spent)
    _spent.clear()
    return taken
