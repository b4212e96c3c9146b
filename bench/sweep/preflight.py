"""The checks that come before a run writes anything. Planned here; the workers carry them out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from bench.sweep.plan import Plan, Task

READ_TOGETHER = 64  # pictures of a `Reading`
PREFLIGHT_PARAMETERS = 100_000_000  # above this, building and encoding once more costs too much


class _Check:
    """What an engine runs before the tasks: to it, a task of one cell, itself."""

    @property
    def inputs(self) -> _Check:
        """Its own alone."""
        return self

    @property
    def cells(self) -> tuple[_Check]:
        """What an engine counts: itself."""
        return (self,)


@dataclass(frozen=True)
class Reading(_Check):
    """Pictures to be read once before anything is written, so that one that cannot be read stops the run first."""

    id: str
    dataset: str
    image_ids: tuple[str, ...]
    system = ""


@dataclass(frozen=True)
class Trial(_Check):
    """A system to be built, and to encode `image_ids` of each point (a task without pictures) at the lowest and highest
    SNR."""

    id: str
    system: str
    points: tuple[tuple[Task, tuple[str, ...], tuple[float, float]], ...]


def preflight(plan: Plan, tasks: list[Task]) -> list[Reading | Trial]:
    """What finds the user's errors before anything is written: pictures that cannot be read, budgets that hold nothing.

    Every picture is read once, and every system (the very large aside) encodes the smallest one at each of its budgets;
    under a budget in bits also the largest, which has the fewest bits a pixel.
    """
    checks: list[Reading | Trial] = []
    ends: dict[str, tuple[str, ...]] = {}  # the smallest picture and the largest
    for spec in dict.fromkeys(task.dataset for task in tasks):
        dataset = plan.datasets[spec]
        ordered = sorted(dataset.ids, key=lambda image_id: math.prod(dataset.size(image_id)))
        ends[spec] = (ordered[0], ordered[-1])
        for start in range(0, len(dataset.ids), READ_TOGETHER):
            checks.append(Reading(f"{spec} {start}", spec, dataset.ids[start : start + READ_TOGETHER]))
    points: dict[str, dict[Task, set[float]]] = {}
    for task in tasks:
        of_system = points.setdefault(task.system, {})
        of_system.setdefault(replace(task, image_ids=(), cells=(), points=()), set()).update(
            cell.snr_db for cell in task.cells
        )
    for name, own in points.items():
        if plan.systems[name].parameters <= PREFLIGHT_PARAMETERS:
            tried = tuple(
                (point, ends[point.dataset][: 1 if point.bits is None else 2], (min(snrs), max(snrs)))
                for point, snrs in own.items()
            )
            checks.append(Trial(name, name, tried))
    return checks
