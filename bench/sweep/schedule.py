"""The order of work: the tasks of a plan are cut into pieces for the workers. `bench.sweep.execute` calls it."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

from bench.sweep.plan import Plan, Task

SHARES = 8  # a piece is at most 1/SHARES of the work of one worker


def schedule(tasks: list[Task], plan: Plan, workers: int) -> list[Task]:
    """The pieces of work in order: heavy tasks first. Tasks that would keep one worker busy at the end are split by
    operating points.

    A worker that gets all pieces of a task encodes its block once. Each additional worker encodes it once more. The
    rows are the same, because a cell does not depend on the task that it came in.
    """

    @cache
    def pixels(spec: str, image_ids: tuple[str, ...]) -> int:
        return sum(math.prod(plan.datasets[spec].size(image_id)) for image_id in image_ids)

    def weight(task: Task) -> float:
        # The few weights of a small network work at full resolution, so the work grows more slowly than the parameters.
        work = 1 + math.sqrt(plan.systems[task.system].parameters / 1e5)
        return pixels(task.dataset, task.image_ids) * len(task.cells) * work

    most = sum(map(weight, tasks)) / (SHARES * workers)
    pieces: list[Task] = []
    for task in sorted(tasks, key=weight, reverse=True):
        count = min(len(task.cells), math.ceil(weight(task) / most)) if workers > 1 and most else 1
        bounds = [round(index * len(task.cells) / count) for index in range(count + 1)]
        pieces += [replace(task, cells=task.cells[a:b]) for a, b in zip(bounds, bounds[1:])]
    return pieces
