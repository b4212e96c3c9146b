"""The order of work: the work units of a plan are cut into pieces for the workers. `bench.sweep.execute` calls it."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

from bench.sweep.plan import Plan, WorkUnit

SHARES = 8  # a piece is at most 1/SHARES of the work of one worker
#: Cells in a piece of a third party's system, if there are so many: each piece is checked, which costs as much as one.
FEWEST = 4


def schedule(units: list[WorkUnit], plan: Plan, workers: int) -> list[WorkUnit]:
    """The pieces of work in order: heavy work units first. Those that would keep one worker busy at the end are split
    by operating points.

    A worker that gets all pieces of a work unit encodes its block once. Each additional worker encodes it again. The
    rows are the same, because a cell does not depend on the work unit that it came in.
    """

    @cache
    def pixels(spec: str, image_ids: tuple[str, ...]) -> int:
        return sum(math.prod(plan.datasets[spec].size(image_id)) for image_id in image_ids)

    def weight(unit: WorkUnit) -> float:
        # The few weights of a small network work at full resolution, so the work grows more slowly than the parameters.
        work = 1 + math.sqrt(plan.systems[unit.system].parameters / 1e5)
        return pixels(unit.dataset, unit.image_ids) * len(unit.cells) * work

    most = sum(map(weight, units)) / (SHARES * workers)
    pieces: list[WorkUnit] = []
    for unit in sorted(units, key=weight, reverse=True):
        count = min(len(unit.cells), math.ceil(weight(unit) / most)) if workers > 1 and most else 1
        if plan.systems[unit.system].plugin:
            count = min(count, max(1, len(unit.cells) // FEWEST))
        bounds = [round(index * len(unit.cells) / count) for index in range(count + 1)]
        pieces += [replace(unit, cells=unit.cells[a:b]) for a, b in zip(bounds, bounds[1:])]
    return pieces
