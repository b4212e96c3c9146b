"""Where the time of a run goes: wall and CPU seconds by stage, each second in one stage only.

A stage that opens inside another takes its time off the outer one. One clock a process, as a worker is; seconds of CPU
are those of all its threads. A stage costs some microseconds, so the clock is never off.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

Seconds = tuple[float, float]  # wall, CPU

_spent: dict[str, Seconds] = {}
_open: list[list[float]] = []  # wall and CPU that stages inside each open one took


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count what is done inside under `name`."""
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
    """Count seconds measured elsewhere."""
    before = _spent.get(name, (0.0, 0.0))
    _spent[name] = (before[0] + wall, before[1] + cpu)


def take() -> dict[str, Seconds]:
    """What was counted since the last call, by stage."""
    taken = dict(_spent)
    _spent.clear()
    return taken
